//! AdamW on plain arrays, and the learning rate over a budget.

use crate::lanes::dot;
use crate::parameters::Parameter;

const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.98;
const EPSILON: f32 = 1e-8;
/// Share of the highest learning rate that the last step has.
const LOWEST: f32 = 0.02;

/// The learning rate: a linear rise, then half a cosine down to nearly nothing at the end of the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) highest: f32,
    /// Share of the budget that the rise takes.
    pub(crate) warm_up: f32,
}

impl Schedule {
    /// At `progress` in [0, 1] through the budget.
    pub(crate) fn rate(self, progress: f64) -> f32 {
        let progress = progress.clamp(0.0, 1.0) as f32;
        let risen = if progress < self.warm_up { progress / self.warm_up } else { 1.0 };
        let fallen = 0.5 * (1.0 + (std::f32::consts::PI * progress).cos());
        self.highest * risen * (LOWEST + (1.0 - LOWEST) * fallen)
    }
}

/// Running means of gradients and of their squares, an array for each parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
    pub(crate) steps: u64,
}

impl AdamW {
    pub(crate) fn new(parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|parameter| vec![0.0; parameter.values.len()]).collect();
        Self { first: zeros(), second: zeros(), steps: 0 }
    }

    /// Moves every parameter against its gradient.
    pub(crate) fn step(&mut self, parameters: &mut [Parameter], gradients: &[Vec<f32>], rate: f32, decay: f32) {
        self.steps += 1;
        let steps = self.steps.min(1 << 20) as i32;
        let bias = [FIRST_DECAY, SECOND_DECAY].map(|factor| 1.0 - factor.powi(steps));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
            let shrink = if parameter.decays { 1.0 - rate * decay } else { 1.0 };
            let values = parameter.values.iter_mut().zip(gradient);
            for ((value, gradient), (first, second)) in values.zip(first.iter_mut().zip(second)) {
                *first += (1.0 - FIRST_DECAY) * (gradient - *first);
                *second += (1.0 - SECOND_DECAY) * (gradient * gradient - *second);
                *value = *value * shrink - rate * (*first / bias[0]) / ((*second / bias[1]).sqrt() + EPSILON);
            }
        }
    }
}

/// Length of all gradients as one vector.
pub(crate) fn length(gradients: &[Vec<f32>]) -> f32 {
    gradients.iter().map(|gradient| dot(gradient, gradient)).sum::<f32>().sqrt()
}

/// Shortens gradients of the given length to at most `length_max`.
pub(crate) fn shorten(gradients: &mut [Vec<f32>], length: f32, length_max: f32) {
    if length > length_max {
        let factor = length_max / length;
        gradients.iter_mut().flatten().for_each(|value| *value *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_ends_at_nearly_nothing() {
        let schedule = Schedule { highest: 2.0, warm_up: 0.1 };
        assert_eq!(schedule.rate(0.0), 0.0);
        assert!(schedule.rate(0.05) < schedule.rate(0.1) && schedule.rate(0.1) > 1.9);
        assert!(schedule.rate(0.5) < schedule.rate(0.4));
        assert!((schedule.rate(1.0) - 0.04).abs() < 1e-6 && schedule.rate(7.0) == schedule.rate(1.0));
    }

    #[test]
    fn steps_find_the_bottom_of_a_bowl() {
        let mut parameters = vec![Parameter::vector("x".into(), None, vec![4.0, -3.0])];
        let mut optimizer = AdamW::new(&parameters);
        for _ in 0..500 {
            let gradients: Vec<_> =
                parameters.iter().map(|p| p.values.iter().map(|value| value - 1.0).collect()).collect();
            optimizer.step(&mut parameters, &gradients, 0.05, 0.0);
        }
        assert!(parameters[0].values.iter().all(|value| (value - 1.0).abs() < 0.05), "{parameters:?}");
    }

    #[test]
    fn long_gradients_are_shortened() {
        let mut gradients = vec![vec![3.0], vec![4.0]];
        assert_eq!(length(&gradients), 5.0);
        shorten(&mut gradients, 5.0, 10.0);
        assert_eq!(gradients, [[3.0], [4.0]]);
        shorten(&mut gradients, 5.0, 1.0);
        assert!((length(&gradients) - 1.0).abs() < 1e-6);
    }
}
