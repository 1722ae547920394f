//! WebSocket by hand: frames as they are, also those that no library would send.

use std::io::{self, Read, Write};

use crate::send_bytes;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 6455")]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The client's end of a WebSocket. Read and written, it is a stream of bytes in binary frames.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    rest: Vec<u8>,
    close_code: Option<u16>,
}

/// Any will do: it only keeps proxies from taking a frame for something else.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

impl<S: Read + Write> WebSocket<S> {
    /// Sends a request for `path` with `headers` added to what every client sends, and demands that it is taken.
    ///
    /// # Panics
    /// With the answer, if it is not.
    pub fn open(stream: S, path: &str, headers: &str) -> Self {
        let (answer, stream) = Self::request(stream, path, headers);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self { stream, rest: Vec::new(), close_code: None }
    }

    /// The head of the answer to a request, and the stream after it.
    ///
    /// # Panics
    /// If none comes.
    pub fn request(mut stream: S, path: &str, headers: &str) -> (String, S) {
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost:1883\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
        .and_then(|()| stream.flush())
        .expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer comes");
            head.extend(byte);
        }
        (String::from_utf8(head).expect("an answer in text"), stream)
    }

    /// Sends one frame.
    pub fn send(&mut self, opcode: Opcode, last: bool, payload: &[u8]) {
        let mut frame = vec![opcode as u8 | u8::from(last) << 7];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        send_bytes(&mut self.stream, &frame);
    }

    /// The next frame; a broker sends each whole and unmasked.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let [first, second] = head;
        assert_eq!((first & 0xF0, second & 0x80), (0x80, 0), "whole and unmasked");
        let length = match second {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                usize::try_from(u64::from_be_bytes(length)).expect("a length")
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((first & 0x0F, payload))
    }

    /// Reads to the end; the code with which the broker closed, if it did.
    pub fn until_closed(&mut self) -> Option<u16> {
        let mut rest = Vec::new();
        let _ = self.read_to_end(&mut rest);
        self.close_code
    }

    /// What is below the frames.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: Read + Write> Read for WebSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.close_code.is_some() {
                return Ok(0);
            }
            let (opcode, payload) = self.receive()?;
            match opcode {
                opcode if opcode == Opcode::Binary as u8 => self.rest = payload,
                opcode if opcode == Opcode::Close as u8 => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    self.close_code = Some(code);
                }
                _ => {}
            }
        }
        let length = self.rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.rest.drain(..length)) {
            *to = from;
        }
        Ok(length)
    }
}

impl<S: Read + Write> Write for WebSocket<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.send(Opcode::Binary, true, buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
