//! Topic filters with `{id}`, `{unit}` and `{bed}`, as a policy's roles are written.

use wardline_wire::topic;

/// Stands for a missing value while a denial is widened; units and beds have no braces, so none looks like it.
const MISSING: &str = "{}";

/// A parsed template. Filled with literal levels it is always a valid topic filter.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Id,
    Unit,
    Bed,
}

/// What fills a template for one principal. Several units or beds make one filter for each combination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) id: &'a str,
    pub(crate) units: &'a [String],
    pub(crate) beds: &'a [String],
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTemplate {
    #[error("a placeholder is {{id}}, {{unit}} or {{bed}}")]
    Placeholder,
    #[error("it is not a topic filter: + and # stand for whole levels, # only for the last")]
    Filter,
    #[error("a grant names the filter within a shared subscription: leave out $share/GROUP/")]
    Shared,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate::Placeholder)?;
            let placeholder = match name {
                "id" => Placeholder::Id,
                "unit" => Placeholder::Unit,
                "bed" => Placeholder::Bed,
                _ => return Err(InvalidTemplate::Placeholder),
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Placeholder(placeholder));
            rest = after;
        }
        if rest.contains('}') {
            return Err(InvalidTemplate::Placeholder);
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { text: text.to_owned(), parts };
        let sample = template.fill("x", Some("x"), Some("x")).ok_or(InvalidTemplate::Filter)?;
        if !topic::is_valid_filter(&sample) {
            return Err(InvalidTemplate::Filter);
        }
        if sample.starts_with("$share/") {
            return Err(InvalidTemplate::Shared);
        }
        Ok(template)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first placeholder for which `values` has nothing.
    pub(crate) fn missing(&self, values: &Values<'_>) -> Option<Placeholder> {
        let missing = |p: &Placeholder| match p {
            Placeholder::Id => false,
            Placeholder::Unit => values.units.is_empty(),
            Placeholder::Bed => values.beds.is_empty(),
        };
        self.placeholders().find(missing)
    }

    /// How many filters [`Self::expand`] makes.
    pub(crate) fn expansions(&self, values: &Values<'_>) -> usize {
        let units = if self.uses(Placeholder::Unit) { values.units.len() } else { 1 };
        let beds = if self.uses(Placeholder::Bed) { values.beds.len() } else { 1 };
        units.saturating_mul(beds)
    }

    /// One filter for each unit and bed; none where a value is missing, so that a grant then grants nothing.
    pub(crate) fn expand(&self, values: &Values<'_>) -> Vec<String> {
        let choices = |placeholder, values: &'_ [String]| -> Vec<Option<String>> {
            if self.uses(placeholder) { values.iter().cloned().map(Some).collect() } else { vec![None] }
        };
        let beds = choices(Placeholder::Bed, values.beds);
        choices(Placeholder::Unit, values.units)
            .iter()
            .flat_map(|unit| beds.iter().map(move |bed| (unit, bed)))
            .filter_map(|(unit, bed)| self.fill(values.id, unit.as_deref(), bed.as_deref()))
            .collect()
    }

    /// As [`Self::expand`], but a level whose value is missing becomes `+`: a denial then denies too much, not too little.
    pub(crate) fn expand_widely(&self, values: &Values<'_>) -> Vec<String> {
        if self.missing(values).is_none() {
            return self.expand(values);
        }
        let missing = [MISSING.to_owned()];
        let or_missing = |list| if <[String]>::is_empty(list) { &missing } else { list };
        let marked = Values { id: values.id, units: or_missing(values.units), beds: or_missing(values.beds) };
        let widen = |filter: String| {
            let levels = filter.split('/').map(|level| if level.contains(MISSING) { "+" } else { level });
            levels.collect::<Vec<_>>().join("/")
        };
        self.expand(&marked).into_iter().map(widen).collect()
    }

    fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Placeholder(placeholder) => Some(*placeholder),
        })
    }

    fn uses(&self, placeholder: Placeholder) -> bool {
        self.placeholders().any(|p| p == placeholder)
    }

    fn fill(&self, id: &str, unit: Option<&str>, bed: Option<&str>) -> Option<String> {
        let mut filter = String::with_capacity(self.text.len());
        for part in &self.parts {
            filter.push_str(match part {
                Part::Text(text) => text,
                Part::Placeholder(Placeholder::Id) => id,
                Part::Placeholder(Placeholder::Unit) => unit?,
                Part::Placeholder(Placeholder::Bed) => bed?,
            });
        }
        Some(filter)
    }
}

impl Placeholder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Unit => "unit",
            Self::Bed => "bed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn expand(template: &str, units: &[&str], beds: &[&str]) -> Vec<String> {
        let values = Values { id: "mon-12", units: &strings(units), beds: &strings(beds) };
        let template = Template::parse(template).unwrap();
        let filters = template.expand(&values);
        assert_eq!(filters.len(), template.expansions(&values));
        filters
    }

    #[test]
    fn several_units_and_beds_make_every_combination() {
        assert_eq!(expand("t/{unit}/{bed}/{id}/#", &["a"], &["1"]), ["t/a/1/mon-12/#"]);
        assert_eq!(expand("t/{unit}/{bed}", &["a", "b"], &["1", "2"]), ["t/a/1", "t/a/2", "t/b/1", "t/b/2"]);
        assert_eq!(expand("t/{unit}/x/{unit}", &["a", "b"], &[]), ["t/a/x/a", "t/b/x/b"]);
        assert_eq!(expand("alerts/+/@{id}/#", &["a", "b"], &["1"]), ["alerts/+/@mon-12/#"]);
    }

    #[test]
    fn a_missing_value_grants_nothing_and_denies_everything_in_its_place() {
        assert_eq!(expand("t/{unit}/{bed}", &["a"], &[]), Vec::<String>::new());
        let values = Values { id: "x", units: &[], beds: &strings(&["1"]) };
        let widely = |text| Template::parse(text).unwrap().expand_widely(&values);
        assert_eq!(widely("t/{unit}/{bed}/#"), ["t/+/1/#"]);
        assert_eq!(widely("t/ward-{unit}/{id}"), ["t/+/x"]);
        assert_eq!(widely("t/{bed}"), ["t/1"]);
    }

    #[test]
    fn what_would_never_be_a_filter_is_refused() {
        for text in ["{", "a/{ward}", "a/{id", "a/}", "{{id}}"] {
            assert_eq!(Template::parse(text).unwrap_err(), InvalidTemplate::Placeholder, "{text}");
        }
        for text in ["", "a/#/b", "a+", "#{id}", "+{id}"] {
            assert_eq!(Template::parse(text).unwrap_err(), InvalidTemplate::Filter, "{text}");
        }
        assert_eq!(Template::parse("$share/g/a").unwrap_err(), InvalidTemplate::Shared);
    }
}
