//! From words to tokens: tokenizers, chat templates, prompt layouts, sequences to train on and to fill in.
//!
//! - `text_tokenizer.rs`, `special_tokens.rs`: words to tokens and back; special tokens by role and family;
//! - `chat_template.rs`, `style.rs`, `published.rs`: how a checkpoint is prompted, and where its folder says so;
//! - `row_template.rs`: a row's columns as a text; `bounded.rs`, `foreign.rs`: how much a template may write, what it may ask for;
//!   `template_worker.rs`: a process of its own for one that could fill the memory;
//! - `layout.rs`, `sequences.rs`: the published layouts; examples as sequences;
//! - `choices.rs`: a prompt and the choices that may answer it, for their likelihood.
//!
//! Picture codes come from the engine; which examples are taken is not decided here.

mod bounded;
pub mod chat_template;
pub mod choices;
mod foreign;
pub mod layout;
pub mod published;
pub mod row_template;
pub mod sequences;
pub mod special_tokens;
pub mod style;
pub mod template_worker;
pub mod text_tokenizer;
