//! Metadata values. They borrow from the file: a vocabulary of a quarter million strings is not copied to be looked at.

use std::borrow::Cow;
use std::fmt;

/// Type of a metadata value or of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type with number `id` in files.
    pub fn from_id(id: u32) -> Option<Self> {
        const ALL: [ValueType; 13] = [
            ValueType::U8,
            ValueType::I8,
            ValueType::U16,
            ValueType::I16,
            ValueType::U32,
            ValueType::I32,
            ValueType::F32,
            ValueType::Bool,
            ValueType::String,
            ValueType::Array,
            ValueType::U64,
            ValueType::I64,
            ValueType::F64,
        ];
        ALL.get(id as usize).copied()
    }

    /// Number in files.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value; `None` for strings and arrays, which carry their length.
    pub(crate) fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Cow<'a, str>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value<'_> {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Value<'static> {
        Value::String(Cow::Owned(text.into()))
    }

    /// The value's type.
    pub fn ty(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// A single or double precision number, as single.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(value) => Some(value),
            Self::F64(value) => Some(value as f32),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of the value in a file, without its type.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(value) => out.push(*value),
            Self::I8(value) => out.extend(value.to_le_bytes()),
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::I16(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push((*value).into()),
            Self::String(text) => encode_string(text, out),
            Self::Array(array) => array.encode(out),
            Self::U64(value) => out.extend(value.to_le_bytes()),
            Self::I64(value) => out.extend(value.to_le_bytes()),
            Self::F64(value) => out.extend(value.to_le_bytes()),
        }
    }

    /// The value of a fixed-size type from exactly its bytes, which the reader has checked.
    pub(crate) fn decode_fixed(ty: ValueType, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Value::Bool(*bytes.first()? != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::String | ValueType::Array => return None,
        })
    }
}

/// An array value: elements of one type that is not an array, still encoded.
#[derive(Clone, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    count: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// Encoded elements that the reader has checked.
    pub(crate) fn checked(element: ValueType, count: usize, bytes: &'a [u8]) -> Self {
        Self { element, count, bytes: Cow::Borrowed(bytes) }
    }

    /// An array of values of one type.
    ///
    /// # Panics
    /// If the values are of different types or arrays themselves: the files this crate writes are its own choice.
    pub fn new<'v>(element: ValueType, values: impl IntoIterator<Item = Value<'v>>) -> Array<'static> {
        assert!(element != ValueType::Array, "arrays inside arrays are not written");
        let mut bytes = Vec::new();
        let mut count = 0;
        for value in values {
            assert_eq!(value.ty(), element, "elements of one array have one type");
            value.encode(&mut bytes);
            count += 1;
        }
        Array { element, count, bytes: Cow::Owned(bytes) }
    }

    /// An array of 32-bit unsigned integers.
    pub fn of_u32(values: &[u32]) -> Array<'static> {
        Array::new(ValueType::U32, values.iter().map(|&value| Value::U32(value)))
    }

    /// An array of strings.
    pub fn of_strings<S: AsRef<str>>(values: &[S]) -> Array<'static> {
        let values = values.iter().map(|text| Value::String(Cow::Borrowed(text.as_ref())));
        Array::new(ValueType::String, values)
    }

    /// Type of the elements.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        let mut rest = &*self.bytes;
        let element = self.element;
        std::iter::from_fn(move || take_element(element, &mut rest))
    }

    /// The element at `index`; constant time unless the elements are strings.
    pub fn element_at(&self, index: usize) -> Option<Value<'_>> {
        let Some(size) = self.element.fixed_bytes() else { return self.iter().nth(index) };
        let start = index.checked_mul(size)?;
        Value::decode_fixed(self.element, self.bytes.get(start..start.checked_add(size)?)?)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.element.id().to_le_bytes());
        out.extend((self.count as u64).to_le_bytes());
        out.extend(&*self.bytes);
    }
}

impl fmt::Debug for Array<'_> {
    /// The kind and number of elements: a vocabulary is no reading matter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}; {}]", self.element, self.count)
    }
}

/// A string in a file: its length in bytes, then the bytes.
pub(crate) fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The first element of `rest`, which moves on. `None` at the end.
fn take_element<'a>(element: ValueType, rest: &mut &'a [u8]) -> Option<Value<'a>> {
    if let Some(size) = element.fixed_bytes() {
        let (bytes, after) = rest.split_at_checked(size)?;
        *rest = after;
        return Value::decode_fixed(element, bytes);
    }
    let (length, after) = rest.split_first_chunk::<8>()?;
    let (bytes, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(Value::String(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_read_back() {
        let numbers = Array::of_u32(&[7, 8, 9]);
        assert_eq!(numbers.iter().filter_map(|value| value.as_u64()).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(numbers.element_at(2), Some(Value::U32(9)));
        assert_eq!(numbers.element_at(3), None);
        let words = Array::of_strings(&["a", "", "naïve"]);
        assert_eq!(words.len(), 3);
        assert_eq!(words.element_at(2), Some(Value::string("naïve")));
        assert_eq!(words.element_at(3), None);
    }

    #[test]
    fn integers_of_any_width_are_accepted_unless_negative() {
        assert_eq!(Value::I32(5).as_u64(), Some(5));
        assert_eq!(Value::U8(5).as_u64(), Some(5));
        assert_eq!(Value::I32(-5).as_u64(), None);
        assert_eq!(Value::F32(5.0).as_u64(), None);
    }
}
