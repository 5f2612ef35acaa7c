//! What the cloud takes for a position, from the compute times that its answers carry.

use std::time::Duration;

use super::{average::Average, link::LinkEstimate};

/// Positions of one ask from which on they cost what those of a prompt do: many go through the layers together.
pub(super) const TOGETHER_MIN: u32 = 8;

/// An answer that the cloud makes alone: prompt up, tokens down as they are made, one round trip in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudOnly {
    /// From the request to the end.
    pub total: Duration,
    /// Engine time in the cloud.
    pub compute: Duration,
}

/// Compute times of the whole model.
#[derive(Debug, Default)]
pub(super) struct CloudCosts {
    /// Of a position that is computed alone, as those of an answer are.
    alone: Average,
    /// Of one of many that are computed together, as those of a prompt are.
    together: Average,
}

impl CloudCosts {
    pub(super) fn add(&mut self, rows: u32, compute: Duration) {
        match rows {
            0 => {}
            1 => self.alone.add(compute),
            rows if rows >= TOGETHER_MIN => self.together.add(compute / rows),
            _ => {}
        }
    }

    /// A prompt, and so many positions after it that were computed alone: those count as others did.
    pub(super) fn add_prompt(&mut self, prompt: u32, after: u32, compute: Duration) {
        let alone = if after == 0 { Some(Duration::ZERO) } else { self.alone.known() };
        if let Some(alone) = alone {
            self.add(prompt, compute.saturating_sub(alone * after));
        }
    }

    /// `None` where the cloud or the link was not measured. A prompt that was never seen together costs what its positions cost
    /// alone: at most as much.
    pub(super) fn answer(&self, prompt: u32, tokens: u32, link: LinkEstimate) -> Option<CloudOnly> {
        let alone = self.alone.known()?;
        let together = self.together.known().unwrap_or(alone);
        // The first token comes with the prompt.
        let compute = together * prompt + alone * tokens.saturating_sub(1);
        Some(CloudOnly { total: link.round_trip? + link.queued.unwrap_or_default() + compute, compute })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_cloud_is_its_prompt_its_tokens_and_one_round_trip() {
        let ms = Duration::from_millis;
        let link = LinkEstimate { round_trip: Some(ms(20)), ..LinkEstimate::default() };
        let mut costs = CloudCosts::default();
        assert_eq!(costs.answer(100, 11, link), None);
        costs.add(1, ms(5));
        costs.add(3, ms(900));
        costs.add(50, ms(100));
        let expected = CloudOnly { total: ms(20 + 200 + 50), compute: ms(250) };
        assert_eq!(costs.answer(100, 11, link), Some(expected));
        assert_eq!(costs.answer(100, 11, LinkEstimate::default()), None, "how far it is matters");
    }

    #[test]
    fn what_follows_a_prompt_is_no_part_of_what_its_positions_cost() {
        let ms = Duration::from_millis;
        let mut costs = CloudCosts::default();
        costs.add_prompt(50, 4, ms(500));
        assert_eq!(costs.together.known(), None, "nothing is known of the four");
        costs.add(1, ms(5));
        costs.add_prompt(50, 4, ms(120));
        assert_eq!(costs.together.known(), Some(ms(2)));
        costs.add_prompt(1, 0, ms(5));
        assert_eq!((costs.together.known(), costs.alone.known()), (Some(ms(2)), Some(ms(5))));
    }
}
