//! Pieces of bodies on their way through the proxy.

use std::cell::OnceCell;

use crate::host::{Body, Host, HostError};

/// A piece of a body, as the proxy has just received it: cut anywhere, and gone when its callback returns. What it is, is not known before a filter
/// asks: its bytes are copied then, once for all filters of the module.
#[derive(Debug)]
pub struct Chunk {
    body: Body,
    size: usize,
    last: bool,
    bytes: OnceCell<Result<Vec<u8>, HostError>>,
}

impl Chunk {
    /// What the proxy says of the piece that is in its hands.
    pub fn new(body: Body, size: usize, last: bool) -> Self {
        Self {
            body,
            size,
            last,
            bytes: OnceCell::new(),
        }
    }

    /// How many bytes it has; possibly none.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the body ends with it and no trailers follow. With trailers, they are the end.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Its bytes. One host call that copies them, however many filters ask; none for an empty piece.
    pub fn bytes(&self, host: &dyn Host) -> Result<&[u8], HostError> {
        if self.size == 0 {
            return Ok(&[]);
        }
        match self.bytes.get_or_init(|| host.body(self.body)) {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(*error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Call, MemoryHost};

    #[test]
    fn a_piece_is_copied_once_and_only_if_asked_for() {
        let mut host = MemoryHost::new();
        let chunk = host.chunk(Body::Response, b"{\"a\":", false);
        assert_eq!((chunk.size(), chunk.is_last()), (5, false));
        assert_eq!(host.calls(Call::Body), 0);
        for _ in 0..2 {
            assert_eq!(chunk.bytes(&host), Ok(b"{\"a\":".as_slice()));
        }
        assert_eq!(host.calls(Call::Body), 1);
        let empty = host.chunk(Body::Response, b"", true);
        assert_eq!(empty.bytes(&host), Ok(b"".as_slice()));
        assert!(empty.is_last());
        assert_eq!(host.calls(Call::Body), 1);
    }

    #[test]
    fn a_piece_that_the_proxy_does_not_show_is_an_error_each_time() {
        let mut host = MemoryHost::new();
        let chunk = host.chunk(Body::Request, b"x", true);
        host.fail(Call::Body, HostError::Status(2));
        for _ in 0..2 {
            assert_eq!(chunk.bytes(&host), Err(HostError::Status(2)));
        }
        assert_eq!(host.calls(Call::Body), 1);
    }
}
