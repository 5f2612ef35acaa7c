//! Matrices, and products of them that lie in one another's memory: candle's kernel, without tensors around it.

use std::ops::Range;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Layout, Result, Shape, bail};

/// Rows of f32 one after another.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    storage: CpuStorage,
    columns: usize,
}

impl Matrix {
    /// `values` are whole rows of `columns` values.
    pub(crate) fn new(values: Vec<f32>, columns: usize) -> Self {
        debug_assert!(values.len().is_multiple_of(columns), "whole rows");
        Self { storage: CpuStorage::F32(values), columns }
    }

    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self::new(vec![0.0; rows * columns], columns)
    }

    pub(crate) fn rows(&self) -> usize {
        self.values().len() / self.columns
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn values(&self) -> &[f32] {
        match &self.storage {
            CpuStorage::F32(values) => values,
            _ => unreachable!("made of f32"),
        }
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        match &mut self.storage {
            CpuStorage::F32(values) => values,
            _ => unreachable!("made of f32"),
        }
    }

    pub(crate) fn into_values(self) -> Vec<f32> {
        match self.storage {
            CpuStorage::F32(values) => values,
            _ => unreachable!("made of f32"),
        }
    }

    /// Adds another matrix of the same shape.
    pub(crate) fn add(&mut self, other: &Self) {
        crate::lanes::add(self.values_mut(), other.values());
    }

    pub(crate) fn view(&self) -> View<'_> {
        let dims = [self.rows(), self.columns];
        View { storage: &self.storage, offset: 0, dims, strides: [self.columns, 1] }
    }
}

/// A matrix of f32 somewhere in a storage, transposed or a block of a larger one.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    storage: &'a CpuStorage,
    offset: usize,
    dims: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
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
pub(crate) fn product(left: View<'_>, right: View<'_>) -> Result<Matrix> {
    let ([rows, inner], [inner_right, columns]) = (left.dims, right.dims);
    if inner != inner_right {
        bail!("{rows} by {inner} cannot be multiplied with {inner_right} by {columns}");
    }
    let dims = (1, rows, columns, inner);
    let storage = left.storage.matmul(right.storage, dims, &left.layout(), &right.layout())?;
    Ok(Matrix { storage, columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_transposes_multiply_as_on_paper() {
        let six = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (wide, tall) = (Matrix::new(six.clone(), 3), Matrix::new(six, 2));
        let multiplied = |left, right| product(left, right).unwrap().into_values();
        let (wide, tall) = (wide.view(), tall.view());
        assert_eq!(multiplied(wide, tall), [22.0, 28.0, 49.0, 64.0]);
        assert_eq!(multiplied(wide, wide.transposed()), [14.0, 32.0, 32.0, 77.0]);
        let corner = wide.block(0..2, 1..3);
        assert_eq!(multiplied(corner, tall.block(0..2, 0..1)), [2.0 + 9.0, 5.0 + 18.0]);
        assert!(product(wide, wide).is_err());
    }
}
