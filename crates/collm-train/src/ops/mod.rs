//! What a layer is made of, each with its gradient: what candle would compose of many passes over memory is one here, and
//! weights that do not learn get no gradient, which saves a third of all products.

mod attention;
mod gate;
mod norm;
mod projection;
mod rotation;

#[cfg(test)]
pub(crate) use attention::tests::small_attention;
pub(crate) use attention::{Attention, Heads};
pub(crate) use gate::{Activation, Gate};
pub(crate) use norm::RmsNorm;
pub(crate) use projection::Projection;
pub(crate) use rotation::Rotation;

#[cfg(test)]
pub(crate) mod checks {
    //! Gradients against finite differences.

    use crate::dense::Matrix;
    use crate::lanes::dot;

    pub(crate) fn random(seed: u64, rows: usize, columns: usize) -> Matrix {
        let mut random = fastrand::Rng::with_seed(seed);
        Matrix::new((0..rows * columns).map(|_| random.f32() * 2.0 - 1.0).collect(), columns)
    }

    /// Compares the slope along random directions, one input at a time, with what the backward pass says.
    pub(crate) fn check_gradients(
        inputs: &[Matrix],
        forward: impl Fn(&[Matrix]) -> Matrix,
        backward: impl Fn(&[Matrix], &Matrix) -> Vec<Vec<f32>>,
    ) {
        const STEP: f32 = 1e-2;
        let result = forward(inputs);
        let given = random(99, result.rows(), result.columns());
        let gradients = backward(inputs, &given);
        assert_eq!(gradients.len(), inputs.len());
        for (index, (input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
            let direction = random(7 + index as u64, input.rows(), input.columns());
            let at = |by: f32| {
                let mut inputs = inputs.to_vec();
                let values = inputs[index].values_mut().iter_mut();
                values.zip(direction.values()).for_each(|(value, direction)| *value += direction * by);
                dot(forward(&inputs).values(), given.values())
            };
            let (slope, said) = ((at(STEP) - at(-STEP)) / (2.0 * STEP), dot(gradient, direction.values()));
            assert!(
                (slope - said).abs() < 2e-2 * slope.abs().max(0.5),
                "input {index}: slope {slope}, gradient {said}"
            );
        }
    }
}
