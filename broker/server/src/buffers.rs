//! Buffers that connections borrow while bytes are on their way, so that a silent connection has none.
//!
//! Each thread keeps a few, so that borrowing is neither an allocation nor a wait.

use std::cell::RefCell;

use bytes::BytesMut;

/// What a borrowed buffer has room for at least, in bytes.
pub const BUFFER_BYTES: usize = 16 * 1_024;
/// A buffer that has grown beyond this is freed, not kept.
const KEPT_BYTES_MAX: usize = 4 * BUFFER_BYTES;
/// Buffers that a thread keeps: as many as one of its connections needs at a time, and some that are on their way back.
const KEPT_MAX: usize = 8;
/// So little is copied to memory of its own size, and the buffer given back.
const REST_BYTES_MAX: usize = BUFFER_BYTES / 8;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Sees to it that `buffer` has room for a quarter of [`BUFFER_BYTES`] at least; what is in it stays.
pub fn lend(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() >= BUFFER_BYTES / 4 {
        return;
    }
    if buffer.capacity() == 0 {
        *buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    }
    // In the same memory, unless somebody still looks at what was in it before.
    buffer.reserve(BUFFER_BYTES.saturating_sub(buffer.len()).max(BUFFER_BYTES / 4));
}

/// Takes a buffer back. Of a few bytes in it a copy stays, of many the buffer itself.
pub fn take_back(buffer: &mut BytesMut) {
    if buffer.len() > REST_BYTES_MAX {
        return;
    }
    let rest = BytesMut::from(&buffer[..]);
    let mut lent = std::mem::replace(buffer, rest);
    lent.clear();
    // Of memory that somebody still looks at only a part could be lent.
    if lent.try_reclaim(BUFFER_BYTES) && lent.capacity() <= KEPT_BYTES_MAX {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(lent);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_lent_again_and_a_rest_stays() {
        let mut buffer = BytesMut::from("begun");
        lend(&mut buffer);
        assert!(buffer == "begun" && buffer.capacity() >= BUFFER_BYTES);
        let memory = buffer.as_ptr();
        take_back(&mut buffer);
        assert!(buffer == "begun" && buffer.capacity() < BUFFER_BYTES / 8);
        let mut other = BytesMut::new();
        lend(&mut other);
        assert!(other.as_ptr() == memory && other.is_empty(), "one buffer serves both in turn");
    }

    #[test]
    fn a_buffer_whose_bytes_are_still_looked_at_is_not_written_over() {
        let mut buffer = BytesMut::new();
        lend(&mut buffer);
        buffer.extend_from_slice(b"kept by somebody");
        let slice = buffer.split_to(4).freeze();
        buffer.clear();
        take_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        let mut other = BytesMut::new();
        lend(&mut other);
        other.extend_from_slice(&[0; BUFFER_BYTES]);
        assert_eq!(slice, "kept");
    }

    #[test]
    fn much_that_waits_for_its_end_is_not_copied_back_and_forth() {
        let mut buffer = BytesMut::new();
        lend(&mut buffer);
        buffer.extend_from_slice(&[7; BUFFER_BYTES / 2]);
        let memory = buffer.as_ptr();
        take_back(&mut buffer);
        lend(&mut buffer);
        assert!(buffer.as_ptr() == memory && buffer.len() == BUFFER_BYTES / 2);
    }

    #[test]
    fn a_thread_keeps_few_and_none_that_are_large() {
        let mut buffers = vec![BytesMut::new(); 2 * KEPT_MAX];
        buffers.iter_mut().for_each(lend);
        buffers.iter_mut().for_each(take_back);
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_MAX);
        KEPT.with_borrow_mut(Vec::clear);
        let mut large = BytesMut::with_capacity(2 * KEPT_BYTES_MAX);
        take_back(&mut large);
        assert!(KEPT.with_borrow(Vec::is_empty) && large.capacity() == 0);
    }
}
