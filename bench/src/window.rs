//! A publisher's publishes under way at QoS 1 and 2: which packet identifiers are free, and since when the others are not.

use std::collections::VecDeque;

/// Packet identifiers 1 to the window's size.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// When each was sent, and whether it has not been answered for; that of identifier 1 first.
    under_way: Vec<Option<u64>>,
    /// Longest unused first, so that a late answer to the last use of one is noticed.
    free: VecDeque<u16>,
}

impl Window {
    pub(crate) fn new(size: u16) -> Self {
        Self { under_way: vec![None; usize::from(size)], free: (1..=size).collect() }
    }

    /// How many more publishes may be under way.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.under_way.len()
    }

    /// A packet identifier for a publish that is due at `sent_ns`.
    pub(crate) fn begin(&mut self, sent_ns: u64) -> Option<u16> {
        let packet_id = self.free.pop_front()?;
        *self.slot(packet_id)? = Some(sent_ns);
        Some(packet_id)
    }

    /// Whether a publish with this identifier is under way.
    pub(crate) fn has(&self, packet_id: u16) -> bool {
        let place = usize::from(packet_id).checked_sub(1);
        place.and_then(|place| self.under_way.get(place)).is_some_and(Option::is_some)
    }

    /// Ends the publish with this identifier, and says when it was sent; `None` if there is no such publish.
    pub(crate) fn end(&mut self, packet_id: u16) -> Option<u64> {
        let sent_ns = self.slot(packet_id)?.take()?;
        self.free.push_back(packet_id);
        Some(sent_ns)
    }

    fn slot(&mut self, packet_id: u16) -> Option<&mut Option<u64>> {
        self.under_way.get_mut(usize::from(packet_id).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_taken_in_turn_and_answered_once() {
        let mut window = Window::new(2);
        assert_eq!((window.begin(10), window.begin(20), window.begin(30)), (Some(1), Some(2), None));
        assert_eq!((window.room(), window.is_empty()), (0, false));
        assert_eq!(window.end(2), Some(20));
        assert_eq!(window.end(2), None, "it was answered");
        assert_eq!((window.end(0), window.end(3)), (None, None), "nobody has these");
        assert_eq!(window.begin(40), Some(2));
        assert!(window.has(1) && window.has(2) && !window.has(3));
        assert_eq!((window.end(1), window.end(2)), (Some(10), Some(40)));
        assert!(window.is_empty());
        assert_eq!(window.begin(50), Some(1));
    }
}
