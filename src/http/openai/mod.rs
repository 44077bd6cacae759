//! Routes in OpenAI's shapes, with the steering beside them.

mod chat;
mod chat_shapes;
mod completion_shapes;
mod completions;
mod models;

pub(super) use chat::{__path_create_chat_completion, create_chat_completion};
pub(super) use completions::{__path_create_completion, create_completion};
pub(super) use models::{
    __path_get_model, __path_list_models, get_model, get_model_with_slashes, list_models,
};
