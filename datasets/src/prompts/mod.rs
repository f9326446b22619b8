//! From words to tokens: tokenizers, chat templates, prompt layouts, and sequences to train on or to fill in.
//!
//! - `text_tokenizer.rs`, `special_tokens.rs`: words to tokens and back; special tokens by role and family;
//! - `chat_template.rs`, `style.rs`, `published.rs`: how a checkpoint is prompted, and which files of its folder say
//!   so;
//! - `row_template.rs`: a text from a row's columns;
//! - `bounded.rs`, `foreign.rs`: limits of a template's output and of its source; `template_worker.rs`: a separate
//!   process for templates that could exhaust the memory;
//! - `layout.rs`, `sequences/`: the published layouts; examples as sequences;
//! - `choices.rs`: a prompt and its candidate answers, for their likelihood.
//!
//! Picture codes come from the engine. The Curator (crate `actors`) decides which examples are used.

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
