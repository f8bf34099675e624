//! Deflate (RFC 1951) for bodies that are made of the same texts again and again, with numbers between them.
//!
//! Invariant: a copy is written only where the bytes at its source were compared with those it stands for. So whatever the
//! caller says about its texts, and whatever is remembered of them, an inflater gives back the bytes of the calls.
//!
//! What a compressor spends its time on is the search for copies, and of a text that is known the answer is known too. A text is
//! parsed once, against those before it, when it is added to [`Texts`]; the [`Encoder`] knows where in the body it wrote
//! each text last. A copy stays open over the end of a text and runs on through the number behind it and the next text for as
//! long as the bytes are the same.
//!
//! ```text
//! Texts::add --parse, once--> Texts --text, bytes, unknown--> Encoder --tokens--> Block --counts, codes--> Bits --finish--> body
//! ```
//!
//! Refuses: other formats' frames and checksums, which are the caller's; flushing in between; a dictionary over several bodies.
//!
//! Limits: a text has at most 65,535 bytes; all of [`Texts`] has the bound it was made with; an encoder has some 210 kB, 4 bytes for
//! each text, and its body. Each call's time is linear in its bytes: a bounded number of places is compared for each token.
//! What cannot be compressed grows by 5 bytes in each block of 16 Ki tokens.

mod bits;
mod block;
mod encoder;
mod huffman;
#[cfg(test)]
mod tests;
mod texts;

pub use encoder::Encoder;
pub use texts::{TEXT_BYTES_MAX, TextId, Texts};

/// An array that never was on the stack.
fn zeros<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N].try_into().unwrap_or_else(|_| unreachable!("N of them"))
}
