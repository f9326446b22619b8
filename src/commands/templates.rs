//! `demask render-templates`, which is called by programs. It renders the templates that arrive as frames on standard
//! input within a memory limit (law L9). Beyond the limit this process ends, and the caller can tell why.

use std::process::ExitCode;

use demask_api::wire;
use demask_datasets::prompts::chat_template::{TemplateError, render_here};
use demask_datasets::prompts::row_template::RowTemplate;
use demask_datasets::prompts::template_worker::{MOST_MEMORY, Rendered, TemplateJob};

use crate::helper_process;

/// Answers one job after another until the input ends.
///
/// # Errors
/// Any error of the pipes; an error if the memory limit cannot be set.
pub fn serve() -> anyhow::Result<ExitCode> {
    helper_process::begin(MOST_MEMORY)?;
    let (mut jobs, mut answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    while let Some(job) = wire::read::<TemplateJob>(&mut jobs)? {
        wire::write(&mut answers, &rendered(&job))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rendered(job: &TemplateJob) -> Rendered {
    match job {
        TemplateJob::Chat { source, turns, names } => {
            let rendered = render_here(source, turns, names);
            rendered.map_err(|error| match error {
                TemplateError::Jinja(words) => words,
                other @ TemplateError::File { .. } => other.to_string(),
            })
        }
        TemplateJob::Row { source, row } => RowTemplate::new(source)?.render_here(row),
    }
}
