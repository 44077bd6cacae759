//! Routes in OpenAI's shapes, with the steering beside them.

mod chat;
mod chat_shapes;
mod models;

pub(super) use chat::{__path_create_chat_completion, create_chat_completion};
pub(super) use models::{
    __path_get_model, __path_list_models, get_model, get_model_with_slashes, list_models,
};
