//! The container: what is written reads back, and no damage to a file is more than a named error.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use collm_model::gguf::{Array, Fault, Gguf, GgufError, GgufWriter, TensorType, Value, ValueType, WriteError};
use proptest::prelude::*;

const ROW: u64 = 64;

fn every_value() -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("general.architecture", Value::string("llama")),
        ("a.u8", Value::U8(200)),
        ("a.i8", Value::I8(-100)),
        ("a.u16", Value::U16(60_000)),
        ("a.i16", Value::I16(-30_000)),
        ("a.u32", Value::U32(4_000_000_000)),
        ("a.i32", Value::I32(-2_000_000_000)),
        ("a.f32", Value::F32(1.5)),
        ("a.bool", Value::Bool(true)),
        ("a.u64", Value::U64(1 << 60)),
        ("a.i64", Value::I64(-(1 << 60))),
        ("a.f64", Value::F64(-2.25)),
        ("a.words", Value::Array(Array::of_strings(&["ein", "", "Wört"]))),
        ("a.flags", Value::Array(Array::new(ValueType::Bool, [Value::Bool(true), Value::Bool(false)]))),
        ("a.numbers", Value::Array(Array::of_u32(&[1, 2, 3]))),
    ]
}

fn small_writer() -> GgufWriter<'static> {
    let mut writer = GgufWriter::new();
    for (key, value) in every_value() {
        writer.set(key, value);
    }
    writer.add_tensor("odd", TensorType::F32, &[3]).unwrap();
    writer.add_tensor("matrix", TensorType::Q8_0, &[ROW, 2]).unwrap();
    writer.add_tensor("last", TensorType::F16, &[2, 2, 2]).unwrap();
    writer
}

fn fill(name: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let bytes = match name {
        "odd" => vec![1; 12],
        "matrix" => vec![2; 4 * 34],
        _ => vec![3; 16],
    };
    out.write_all(&bytes)
}

fn small_file() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.gguf");
        small_writer().write(&path, fill).unwrap();
        std::fs::read(path).unwrap()
    });
    BYTES.clone()
}

fn fault(bytes: Vec<u8>) -> Fault {
    match Gguf::from_bytes(bytes) {
        Err(GgufError::Malformed { fault, .. }) => fault,
        other => panic!("expected a malformed file, got {other:?}"),
    }
}

/// The small file with the first occurrence of `from` replaced by as many bytes.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = small_file();
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the pattern is in the file");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// `name` as in a file, followed by `after`.
fn named(name: &str, after: &[u8]) -> Vec<u8> {
    [&(name.len() as u64).to_le_bytes(), name.as_bytes(), after].concat()
}

#[test]
fn what_is_written_reads_back() {
    let gguf = Gguf::from_bytes(small_file()).unwrap();
    let read: Vec<_> = gguf.metadata().collect();
    assert_eq!(read, every_value());
    let data: Vec<_> = ["odd", "matrix", "last"].map(|name| gguf.tensor(name).unwrap()).to_vec();
    assert_eq!(data[0].data, [1; 12]);
    assert_eq!(data[1].data, [2; 136]);
    assert_eq!((data[1].ty, data[1].dims), (TensorType::Q8_0, [ROW, 2, 1, 1]));
    assert_eq!((data[2].data, data[2].dims), (&[3; 16][..], [2, 2, 2, 1]));
    assert!(data.iter().all(|tensor| tensor.file_offset % 32 == 0));
    assert!(gguf.tensor("absent").is_none() && gguf.value("absent").is_none());
}

#[test]
fn a_mapped_file_reads_like_one_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, small_file()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.tensor("last").unwrap().data, [3; 16]);
}

#[test]
fn unreadable_paths_are_named() {
    for path in ["/nonexistent/model.gguf", "/"] {
        let error = Gguf::open(Path::new(path)).unwrap_err();
        assert!(matches!(error, GgufError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains(path));
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let one = 1_u32.to_le_bytes();
    assert!(matches!(fault(b"GGUF".to_vec()), Fault::Truncated { .. }));
    assert!(matches!(fault(b"GGML____".to_vec()), Fault::Magic(_)));
    assert_eq!(
        fault(patched(&[b"GGUF".as_slice(), &3_u32.to_le_bytes()].concat(), b"GGUF\x01\0\0\0")),
        Fault::Version(1)
    );
    assert_eq!(fault(patched(b"GGUF", b"GGUF\0\0\0\x03")), Fault::BigEndian);
    assert!(matches!(fault(patched(&named("odd", &one), &named("odd", &[5]))), Fault::Rank { rank: 5, .. }));
    assert!(matches!(fault(patched(&named("odd", &one), &named("odd", &[0]))), Fault::Rank { rank: 0, .. }));
    assert!(matches!(fault(patched(&named("a.u16", &[2]), &named("a.u16", &[77]))), Fault::UnknownValueType(77)));
    assert!(
        matches!(fault(patched(&named("a.u16", b""), &named("a.i16", b""))), Fault::DuplicateKey(key) if key == "a.i16")
    );
    assert_eq!(fault(patched("Wört".as_bytes(), b"W\xff\xffrt")), Fault::Utf8("a string value"));
    assert_eq!(
        fault(patched(&named("a.bool", &[7, 0, 0, 0, 1]), &named("a.bool", &[7, 0, 0, 0, 9]))),
        Fault::Boolean(9)
    );
    assert!(matches!(
        fault(patched(&named("a.words", &[9, 0, 0, 0, 8]), &named("a.words", &[9, 0, 0, 0, 9]))),
        Fault::NestedArray
    ));
}

#[test]
fn damage_to_the_tensor_directory_has_its_name() {
    let odd = |dim: u64, ty: u32, offset: u64| {
        let mut line = named("odd", &1_u32.to_le_bytes());
        line.extend(dim.to_le_bytes());
        line.extend(ty.to_le_bytes());
        line.extend(offset.to_le_bytes());
        line
    };
    let with = |line: Vec<u8>| fault(patched(&odd(3, 0, 0), &line));
    assert!(matches!(with(odd(0, 0, 0)), Fault::Dimensions { .. }));
    assert!(matches!(with(odd(u64::MAX, 0, 0)), Fault::Dimensions { .. }));
    assert!(matches!(with(odd(1 << 62, 0, 0)), Fault::Dimensions { .. }));
    assert!(matches!(with(odd(1 << 40, 0, 0)), Fault::OutsideFile { .. }));
    assert!(matches!(with(odd(3, 4, 0)), Fault::TensorType { ty: 4, .. }));
    assert!(matches!(with(odd(3, 2, 0)), Fault::RaggedRow { row: 3, block: 32, .. }));
    assert!(matches!(with(odd(3, 0, 8)), Fault::Misaligned { offset: 8, .. }));
    assert!(matches!(with(odd(3, 0, u64::MAX - 31)), Fault::OutsideFile { .. }));
    assert!(matches!(with(odd(3, 0, 32)), Fault::Overlap { .. }));
}

#[test]
fn claimed_counts_are_not_believed() {
    let huge = u64::MAX.to_le_bytes();
    for at in [8, 16] {
        let mut bytes = small_file();
        bytes[at..at + 8].copy_from_slice(&huge);
        assert!(matches!(fault(bytes), Fault::AboveLimit { value: u64::MAX, .. }));
    }
}

#[test]
fn an_alignment_must_be_a_power_of_two() {
    for (alignment, good) in [(0_u32, false), (1, true), (48, false), (64, true), (1 << 20, false)] {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(named("general.alignment", &4_u32.to_le_bytes()));
        bytes.extend(alignment.to_le_bytes());
        assert_eq!(Gguf::from_bytes(bytes).is_ok(), good, "{alignment}");
    }
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.gguf");
    std::fs::write(&path, b"precious").unwrap();
    let short = |_: &str, out: &mut dyn Write| out.write_all(&[0; 4]);
    assert!(matches!(small_writer().write(&path, short), Err(WriteError::Length { announced: 12, actual: 4, .. })));
    let broken = |_: &str, _: &mut dyn Write| Err("no data");
    assert!(matches!(small_writer().write(&path, broken), Err(WriteError::Data { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written stays behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = small_file();
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        read_everything(bytes);
    }

    #[test]
    fn truncations_are_errors(cut in any::<prop::sample::Index>()) {
        let mut bytes = small_file();
        bytes.truncate(cut.index(bytes.len() - 16));
        prop_assert!(Gguf::from_bytes(bytes).is_err());
    }

    #[test]
    fn noise_after_the_magic_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everything([b"GGUF\x03\0\0\0".as_slice(), &noise].concat());
    }
}

fn read_everything(bytes: Vec<u8>) {
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return };
    for (key, value) in gguf.metadata() {
        assert_eq!(gguf.value(key).map(|value| value.ty()), Some(value.ty()));
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    for info in gguf.tensors() {
        assert_eq!(gguf.tensor(&info.name).map(|tensor| tensor.data.len() as u64), Some(info.byte_count));
    }
}
