//! The field `budget`: what an answer may cost, in place of a threshold.

use collm_core::{
    budget::{Budget, Target, TargetError},
    policy::Threshold,
};
use serde::Deserialize;

use crate::{Defaults, error::ApiError, fields::Fields};

/// What an object that names no target, or two, is told.
const ONE_TARGET: &str = "give either tpot_ms (milliseconds per token) or cloud (share of the tokens, 0 to 1)";

/// `"tpot=60ms"`, `"cloud=20%"`, `{"tpot_ms": 60}` or `{"cloud": 0.2}`; the objects also with `threshold_min`.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected text as \"tpot=60ms\", or an object with tpot_ms or cloud, and maybe threshold_min"
)]
enum Asked {
    Text(String),
    Object(AskedObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedObject {
    tpot_ms: Option<f64>,
    cloud: Option<f64>,
    threshold_min: Option<f32>,
}

pub(super) fn budget(fields: &mut Fields, defaults: &Defaults) -> Result<Option<Budget>, ApiError> {
    let Some(asked) = fields.take("budget")? else { return Ok(None) };
    let budget = parse(asked, defaults.threshold_min).map_err(|problem| fields.complaint("budget", problem))?;
    Ok(Some(budget))
}

fn parse(asked: Asked, threshold_min: Threshold) -> Result<Budget, String> {
    let say = |error: TargetError| error.to_string();
    let object = match asked {
        Asked::Text(text) => return Ok(Budget { target: text.parse().map_err(say)?, threshold_min }),
        Asked::Object(object) => object,
    };
    let target = match (object.tpot_ms, object.cloud) {
        (Some(milliseconds), None) => Target::milliseconds_per_token(milliseconds),
        (None, Some(share)) => Target::cloud_share(share),
        _ => return Err(ONE_TARGET.to_owned()),
    };
    let threshold_min = match object.threshold_min {
        None => threshold_min,
        Some(value) => Threshold::new(value).ok_or_else(|| format!("threshold_min: {value} is not 0 or more"))?,
    };
    Ok(Budget { target: target.map_err(say)?, threshold_min })
}
