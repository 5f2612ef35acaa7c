//! Products of matrices that lie in one another's memory: candle's kernel, without tensors around it.

use std::ops::Range;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Layout, Result, Shape, bail};

/// A matrix of f32 somewhere in a storage, transposed or a block of a larger one.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    storage: &'a CpuStorage,
    offset: usize,
    dims: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// A whole storage as rows one after another.
    pub(crate) fn new(storage: &'a CpuStorage, rows: usize, columns: usize) -> Self {
        Self { storage, offset: 0, dims: [rows, columns], strides: [columns, 1] }
    }

    /// A tensor of two dimensions.
    pub(crate) fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (&[rows, columns], &[row_stride, column_stride]) = (layout.dims(), layout.stride()) else {
            bail!("a matrix has two dimensions, not {:?}", layout.dims())
        };
        Ok(Self { storage, offset: layout.start_offset(), dims: [rows, columns], strides: [row_stride, column_stride] })
    }

    pub(crate) fn transposed(self) -> Self {
        let ([rows, columns], [row_stride, column_stride]) = (self.dims, self.strides);
        Self { dims: [columns, rows], strides: [column_stride, row_stride], ..self }
    }

    pub(crate) fn block(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let offset = self.offset + rows.start * self.strides[0] + columns.start * self.strides[1];
        Self { offset, dims: [rows.len(), columns.len()], ..self }
    }

    fn layout(&self) -> Layout {
        Layout::new(Shape::from_dims(&self.dims), self.strides.to_vec(), self.offset)
    }
}

/// `left` times `right`, rows one after another.
pub(crate) fn product(left: View<'_>, right: View<'_>) -> Result<Vec<f32>> {
    let ([rows, inner], [inner_right, columns]) = (left.dims, right.dims);
    if inner != inner_right {
        bail!("{rows} by {inner} cannot be multiplied with {inner_right} by {columns}");
    }
    let dims = (1, rows, columns, inner);
    match left.storage.matmul(right.storage, dims, &left.layout(), &right.layout())? {
        CpuStorage::F32(values) => Ok(values),
        other => bail!("products are f32, not {:?}", other.dtype()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_transposes_multiply_as_on_paper() {
        let six = CpuStorage::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (wide, tall) = (View::new(&six, 2, 3), View::new(&six, 3, 2));
        assert_eq!(product(wide, tall).unwrap(), [22.0, 28.0, 49.0, 64.0]);
        assert_eq!(product(wide, wide.transposed()).unwrap(), [14.0, 32.0, 32.0, 77.0]);
        let corner = wide.block(0..2, 1..3);
        assert_eq!(product(corner, wide.block(0..2, 0..1)).unwrap(), [2.0 + 12.0, 5.0 + 24.0]);
        assert!(product(wide, wide).is_err());
    }
}
