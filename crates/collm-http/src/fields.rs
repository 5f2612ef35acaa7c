//! A request's JSON object, taken apart field by field, so that every complaint names its field.

use axum::{
    Json,
    extract::{FromRequest, Request},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// What of an object is not taken yet. `null` is the same as nothing, as clients mean it.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Where the object stands in the body: empty, or ends in a dot.
    path: String,
    object: Map<String, Value>,
}

impl Fields {
    /// The field's value, if it is there.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|error| self.complaint(name, error.to_string())),
        }
    }

    /// The object in the field; an empty one if there is none.
    pub(crate) fn take_object(&mut self, name: &str) -> Result<Self, ApiError> {
        let object = self.take(name)?.unwrap_or_default();
        Ok(Self { path: format!("{}{name}.", self.path), object })
    }

    /// The objects in the field's list, if it is there.
    pub(crate) fn take_objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, ApiError> {
        let objects: Option<Vec<_>> = self.take(name)?;
        let at = |(index, object)| Self { path: format!("{}{name}[{index}].", self.path), object };
        Ok(objects.map(|objects| objects.into_iter().enumerate().map(at).collect()))
    }

    /// The field's value, which cannot be left out.
    pub(crate) fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ApiError> {
        self.take(name)?.ok_or_else(|| self.complaint(name, "it is missing"))
    }

    /// What is wrong with a field.
    pub(crate) fn complaint(&self, name: &str, problem: impl Into<String>) -> ApiError {
        ApiError::Field { field: format!("{}{name}", self.path), problem: problem.into() }
    }

    /// Refuses what nobody has taken.
    pub(crate) fn refuse_rest(&self) -> Result<(), ApiError> {
        match self.object.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(self.complaint(unknown, "there is no such field")),
        }
    }

    /// Refuses the field unless its value asks for nothing.
    pub(crate) fn refuse_unless(&mut self, name: &str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.object.remove(name) {
            Some(value) if !is_neutral(&value) => Err(ApiError::Unsupported(format!("{}{name}", self.path))),
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(object) = Json::<Map<String, Value>>::from_request(request, state).await?;
        Ok(Self { path: String::new(), object })
    }
}
