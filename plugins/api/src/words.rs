//! The words of alarm systems (IEC 60601-1-8, IHE ACM) that rules, messages and people share.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$each])* #[serde(rename = $text)] $word,)* }
        impl $name {
            /// The word as it stands in payloads, topics and rules.
            pub const fn text(self) -> &'static str { match self { $(Self::$word => $text,)* } }
            /// The value that a word stands for.
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$word),)* _ => None } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.text()) }
        }
    };
}

words! {
    /// Whose reading it is. A condition belongs to one mode, and nothing of one mode touches another's.
    ///
    /// In order of precedence: where two modes contend for one retained topic, the smaller one owns it.
    Mode {
        /// A patient's.
        Real = "real",
        /// A demonstration's.
        Demo = "demo",
        /// A technician's.
        Test = "test",
    }
}

words! {
    /// What ignoring it would cost.
    Severity {
        /// Minor injury or discomfort.
        Minor = "minor",
        /// Reversible injury.
        Reversible = "reversible",
        /// Death or irreversible injury.
        Death = "death",
    }
}

words! {
    /// How fast the harm comes.
    Onset {
        /// In minutes to hours.
        Delayed = "delayed",
        /// Not at once, but too soon for manual correction alone.
        Prompt = "prompt",
        /// In seconds.
        Immediate = "immediate",
    }
}

words! {
    /// How urgent it is: derived from severity and onset, not chosen.
    Priority {
        /// Awareness.
        Low = "low",
        /// Prompt response.
        Medium = "medium",
        /// Immediate response.
        High = "high",
    }
}

words! {
    /// What the condition is about.
    Kind {
        /// The patient.
        Physiological = "physiological",
        /// Equipment, link or engine.
        Technical = "technical",
        /// Neither: worth knowing.
        Advisory = "advisory",
    }
}

words! {
    /// The step of an alert that a message tells of (IHE ACM event phase).
    Phase {
        /// It began.
        Start = "start",
        /// It still stands: said again.
        Continue = "continue",
        /// Something about it changed.
        Update = "update",
        /// It climbed to the next tier.
        Escalate = "escalate",
        /// It fell back to an earlier tier.
        Deescalate = "deescalate",
        /// It is over.
        End = "end",
        /// It was reset.
        Reset = "reset",
    }
}

words! {
    /// Where an alert stands.
    State {
        /// The condition is present and nobody has answered.
        Active = "active",
        /// A person took responsibility; the condition may still be present.
        Acknowledged = "acknowledged",
        /// A person put it off, for a reason and a time.
        Shelved = "shelved",
        /// The condition has passed, but its person does not know of it yet.
        Latched = "latched",
        /// Over.
        Inactive = "inactive",
    }
}

impl Priority {
    /// The table of IEC 60601-1-8, 6.1.2.
    pub const fn of(severity: Severity, onset: Onset) -> Self {
        match (severity, onset) {
            (Severity::Death, Onset::Immediate | Onset::Prompt)
            | (Severity::Reversible, Onset::Immediate) => Self::High,
            (Severity::Death, Onset::Delayed)
            | (Severity::Reversible, Onset::Prompt)
            | (Severity::Minor, Onset::Immediate) => Self::Medium,
            (Severity::Reversible, Onset::Delayed) | (Severity::Minor, Onset::Prompt | Onset::Delayed) => {
                Self::Low
            }
        }
    }
}

/// Whether it kills within moments: such an alarm takes no delay and cannot be shelved.
pub const fn is_lethal(severity: Severity, onset: Onset) -> bool {
    matches!((severity, onset), (Severity::Death, Onset::Immediate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_follows_the_table_of_the_standard() {
        use {Onset::*, Severity::*};
        let rows = [
            (Death, ["high", "high", "medium"]),
            (Reversible, ["high", "medium", "low"]),
            (Minor, ["medium", "low", "low"]),
        ];
        for (severity, row) in rows {
            for (onset, expected) in [Immediate, Prompt, Delayed].into_iter().zip(row) {
                assert_eq!(Priority::of(severity, onset).text(), expected, "{severity} {onset}");
            }
        }
    }

    #[test]
    fn words_read_back_and_real_comes_first() {
        for mode in [Mode::Real, Mode::Demo, Mode::Test] {
            assert_eq!(Mode::parse(mode.text()), Some(mode));
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
        }
        assert!(Mode::Real < Mode::Demo && Mode::Demo < Mode::Test);
        assert!(Priority::High > Priority::Medium && Priority::Medium > Priority::Low);
    }
}
