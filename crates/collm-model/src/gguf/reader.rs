//! Parsing a GGUF file from a memory map.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::cursor::{Cursor, Located, fail_at};
use super::error::{Fault, GgufError};
use super::{ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, Limits, MAGIC, TensorType, Value, ValueType};

/// A checked GGUF file: whatever it hands out lies inside the file and is well formed.
#[derive(Debug)]
pub struct Gguf {
    bytes: Bytes,
    header: Header,
}

/// One line of the tensor directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in its file.
    pub name: String,
    /// Storage type.
    pub ty: TensorType,
    /// Values along each dimension, the row length first; 1 above [`rank`](Self::rank).
    pub dims: [u64; 4],
    /// Dimensions the file states, 1 to 4.
    pub rank: u32,
    /// First byte of the data, from the start of the file.
    pub file_offset: u64,
    /// Bytes of the data.
    pub byte_count: u64,
}

/// A tensor with its data.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Unique in its file.
    pub name: &'a str,
    /// Storage type.
    pub ty: TensorType,
    /// Values along each dimension, the row length first; 1 above the rank.
    pub dims: [u64; 4],
    /// The data, exactly as long as type and dimensions say.
    pub data: &'a [u8],
    /// First byte of the data, from the start of the file.
    pub file_offset: u64,
    rank: usize,
}

impl TensorView<'_> {
    /// The dimensions the file states, 1 to 4 of them.
    pub fn stated_dims(&self) -> &[u64] {
        &self.dims[..self.rank]
    }
}

impl Gguf {
    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let bytes = map(path).map_err(|source| GgufError::Unreadable { path: path.to_owned(), source })?;
        Self::check(Bytes::Mapped(bytes), path)
    }

    /// Checks a file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::check(Bytes::Owned(bytes), Path::new(""))
    }

    fn check(bytes: Bytes, path: &Path) -> Result<Self, GgufError> {
        match Header::parse(bytes.as_slice(), &Limits::default()) {
            Ok(header) => Ok(Self { bytes, header }),
            Err(Located { offset, fault }) => Err(GgufError::Malformed { path: PathBuf::from(path), offset, fault }),
        }
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The value of a metadata key.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let &index = self.header.keys.get(key)?;
        Some(self.header.entries[index].value(self.bytes()))
    }

    /// Whether its bytes are a mapped file's, and no memory of this process.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// All metadata in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.header.entries.iter().map(|entry| (&*entry.key, entry.value(self.bytes())))
    }

    /// The tensor directory in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let &index = self.header.tensor_names.get(name)?;
        Some(self.view(&self.header.tensors[index]))
    }

    fn view<'a>(&'a self, info: &'a TensorInfo) -> TensorView<'a> {
        let start = info.file_offset as usize;
        TensorView {
            name: &info.name,
            ty: info.ty,
            dims: info.dims,
            data: &self.bytes()[start..start + info.byte_count as usize],
            file_offset: info.file_offset,
            rank: info.rank as usize,
        }
    }
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Maps a file for reading.
// A map is undefined behaviour only if the file changes underneath. Model files are replaced by rename, never written in place
// (see `writer`), and a person who overwrites one in place while it runs gets garbage tokens in any engine that maps weights.
#[allow(unsafe_code)]
fn map(path: &Path) -> std::io::Result<Mmap> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    unsafe { Mmap::map(&file) }
}

/// A metadata entry: where its value lies, checked, decoded when asked for.
#[derive(Debug)]
struct Entry {
    key: String,
    ty: ValueType,
    /// For arrays the encoded elements, for strings the text, otherwise the value.
    payload: Range<usize>,
    /// Element type and count of an array.
    array: Option<(ValueType, usize)>,
}

impl Entry {
    fn value<'a>(&self, file: &'a [u8]) -> Value<'a> {
        let payload = &file[self.payload.clone()];
        if let Some((element, count)) = self.array {
            return Value::Array(Array::checked(element, count, payload));
        }
        if self.ty == ValueType::String {
            let text = std::str::from_utf8(payload).expect("checked when the header was parsed");
            return Value::String(Cow::Borrowed(text));
        }
        Value::decode_fixed(self.ty, payload).expect("as many bytes as the type has were set aside")
    }
}

#[derive(Debug)]
struct Header {
    entries: Vec<Entry>,
    keys: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
    tensor_names: HashMap<String, usize>,
}

impl Header {
    fn parse(file: &[u8], limits: &Limits) -> Result<Self, Located> {
        let mut cursor = Cursor::new(file);
        parse_magic(&mut cursor)?;
        let tensor_count = cursor.count("the number of tensors", limits.tensors_max)?;
        let entry_count = cursor.count("the number of metadata entries", limits.metadata_entries_max)?;
        let (entries, keys) = parse_metadata(&mut cursor, entry_count, limits)?;
        let alignment = alignment(file, &entries, &keys, limits)?;
        let mut directory = Directory { file_bytes: file.len() as u64, alignment, limits };
        let (tensors, tensor_names) = directory.parse(&mut cursor, tensor_count)?;
        Ok(Self { entries, keys, tensors, tensor_names })
    }
}

fn parse_magic(cursor: &mut Cursor<'_>) -> Result<(), Located> {
    let magic = cursor.array()?;
    if magic != MAGIC {
        return fail_at(0, Fault::Magic(magic));
    }
    match cursor.u32()? {
        2 | 3 => Ok(()),
        version if matches!(version.swap_bytes(), 1..=3) => fail_at(4, Fault::BigEndian),
        version => fail_at(4, Fault::Version(version)),
    }
}

type Metadata = (Vec<Entry>, HashMap<String, usize>);

fn parse_metadata(cursor: &mut Cursor<'_>, count: u64, limits: &Limits) -> Result<Metadata, Located> {
    let mut entries = Vec::new();
    let mut keys = HashMap::new();
    for index in 0..count as usize {
        let at = cursor.position();
        let key = cursor.name("a metadata key", limits.key_bytes_max)?.to_owned();
        let entry = parse_entry(cursor, key.clone(), limits)?;
        if keys.insert(key, index).is_some() {
            return fail_at(at, Fault::DuplicateKey(entry.key));
        }
        entries.push(entry);
    }
    Ok((entries, keys))
}

fn parse_entry(cursor: &mut Cursor<'_>, key: String, limits: &Limits) -> Result<Entry, Located> {
    let ty = parse_value_type(cursor)?;
    let (array, payload) = if ty == ValueType::Array {
        let element = parse_value_type(cursor)?;
        let count = cursor.count("the length of an array", limits.array_elements_max)?;
        (Some((element, count as usize)), skip_elements(cursor, element, count, limits)?)
    } else if ty == ValueType::String {
        let length = cursor.string("a string value", limits.string_bytes_max)?.len();
        (None, cursor.position() - length..cursor.position())
    } else {
        (None, skip_elements(cursor, ty, 1, limits)?)
    };
    Ok(Entry { key, ty, payload, array })
}

fn parse_value_type(cursor: &mut Cursor<'_>) -> Result<ValueType, Located> {
    let at = cursor.position();
    let id = cursor.u32()?;
    ValueType::from_id(id).map_or_else(|| fail_at(at, Fault::UnknownValueType(id)), Ok)
}

/// Checks `count` values and returns the bytes they take.
fn skip_elements(
    cursor: &mut Cursor<'_>,
    element: ValueType,
    count: u64,
    limits: &Limits,
) -> Result<Range<usize>, Located> {
    let start = cursor.position();
    match element {
        ValueType::Array => return cursor.fail(Fault::NestedArray),
        ValueType::String => {
            for _ in 0..count {
                cursor.string("a string value", limits.string_bytes_max)?;
            }
        }
        fixed => {
            let size = fixed.fixed_bytes().expect("only strings and arrays have no fixed size") as u64;
            let bytes = cursor.take(count * size)?;
            if fixed == ValueType::Bool {
                check_booleans(start, bytes)?;
            }
        }
    }
    Ok(start..cursor.position())
}

fn check_booleans(start: usize, bytes: &[u8]) -> Result<(), Located> {
    match bytes.iter().position(|&byte| byte > 1) {
        Some(index) => fail_at(start + index, Fault::Boolean(bytes[index])),
        None => Ok(()),
    }
}

fn alignment(file: &[u8], entries: &[Entry], keys: &HashMap<String, usize>, limits: &Limits) -> Result<u64, Located> {
    let Some(&index) = keys.get(ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    let entry = &entries[index];
    let at = entry.payload.start;
    let Value::U32(alignment) = entry.value(file) else { return fail_at(at, Fault::AlignmentType(entry.ty)) };
    let (value, limit) = (u64::from(alignment), limits.alignment_max);
    if !value.is_power_of_two() {
        return fail_at(at, Fault::Alignment(value));
    }
    if value > limit {
        return fail_at(at, Fault::AboveLimit { what: "the alignment", value, limit });
    }
    Ok(value)
}

/// Parses the tensor directory.
struct Directory<'a> {
    file_bytes: u64,
    alignment: u64,
    limits: &'a Limits,
}

type Tensors = (Vec<TensorInfo>, HashMap<String, usize>);

impl Directory<'_> {
    fn parse(&mut self, cursor: &mut Cursor<'_>, count: u64) -> Result<Tensors, Located> {
        let mut tensors = Vec::new();
        let mut names = HashMap::new();
        for index in 0..count as usize {
            let at = cursor.position();
            let info = self.parse_info(cursor)?;
            if names.insert(info.name.clone(), index).is_some() {
                return fail_at(at, Fault::DuplicateTensor(info.name));
            }
            tensors.push((at, info));
        }
        let data_start = (cursor.position() as u64).next_multiple_of(self.alignment);
        for (at, info) in &mut tensors {
            self.place(*at, info, data_start)?;
        }
        check_overlap(&tensors)?;
        Ok((tensors.into_iter().map(|(_, info)| info).collect(), names))
    }

    /// A directory line; `file_offset` still counts from the start of the data section.
    fn parse_info(&self, cursor: &mut Cursor<'_>) -> Result<TensorInfo, Located> {
        let name = cursor.name("a tensor name", self.limits.tensor_name_bytes_max)?.to_owned();
        let at = cursor.position();
        let (rank, dims) = parse_dims(cursor, &name)?;
        let id = cursor.u32()?;
        let Some(ty) = TensorType::from_id(id) else { return fail_at(at, Fault::TensorType { name, ty: id }) };
        let byte_count = match byte_count(ty, dims) {
            Ok(count) => count,
            Err(reason) => return fail_at(at, reason.fault(name, ty, dims)),
        };
        let file_offset = cursor.u64()?;
        Ok(TensorInfo { name, ty, dims, rank, file_offset, byte_count })
    }

    fn place(&self, at: usize, info: &mut TensorInfo, data_start: u64) -> Result<(), Located> {
        let offset = info.file_offset;
        if !offset.is_multiple_of(self.alignment) {
            let (name, alignment) = (info.name.clone(), self.alignment);
            return fail_at(at, Fault::Misaligned { name, offset, alignment });
        }
        let start = data_start.saturating_add(offset);
        let end = start.saturating_add(info.byte_count);
        if end > self.file_bytes {
            return fail_at(at, Fault::OutsideFile { name: info.name.clone(), end, file: self.file_bytes });
        }
        info.file_offset = start;
        Ok(())
    }
}

fn parse_dims(cursor: &mut Cursor<'_>, name: &str) -> Result<(u32, [u64; 4]), Located> {
    let at = cursor.position();
    let rank = cursor.u32()?;
    if !(1..=4).contains(&rank) {
        return fail_at(at, Fault::Rank { name: name.to_owned(), rank });
    }
    let mut dims = [1; 4];
    for dim in &mut dims[..rank as usize] {
        *dim = cursor.u64()?;
    }
    Ok((rank, dims))
}

/// Why dimensions and type give no size.
enum SizeFault {
    Impossible,
    Ragged,
}

impl SizeFault {
    fn fault(&self, name: String, ty: TensorType, dims: [u64; 4]) -> Fault {
        match self {
            Self::Impossible => Fault::Dimensions { name, dims },
            Self::Ragged => Fault::RaggedRow { name, row: dims[0], block: ty.block_values() },
        }
    }
}

/// Bytes of a tensor. The number of values stays below 2^63, as ggml counts in signed integers.
fn byte_count(ty: TensorType, dims: [u64; 4]) -> Result<u64, SizeFault> {
    let values = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    match values {
        Some(1..=0x7fff_ffff_ffff_ffff) => (),
        _ => return Err(SizeFault::Impossible),
    }
    if !dims[0].is_multiple_of(ty.block_values()) {
        return Err(SizeFault::Ragged);
    }
    let rows = dims[1..].iter().product::<u64>();
    ty.row_bytes(dims[0]).and_then(|row| row.checked_mul(rows)).ok_or(SizeFault::Impossible)
}

fn check_overlap(tensors: &[(usize, TensorInfo)]) -> Result<(), Located> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|(_, info)| info.file_offset);
    for pair in ordered.windows(2) {
        let ((_, first), (at, second)) = (pair[0], pair[1]);
        if first.file_offset + first.byte_count > second.file_offset {
            return fail_at(*at, Fault::Overlap { first: first.name.clone(), second: second.name.clone() });
        }
    }
    Ok(())
}
