//! `demask render-templates`, which is called by programs. It renders the templates that arrive as frames on standard
//! input within a memory limit (law L9). Beyond the limit this process ends, and the caller can tell why.

use std::process::ExitCode;

use anyhow::Context as _;
use demask_api::wire;
use demask_datasets::prompts::chat_template::{TemplateError, render_here};
use demask_datasets::prompts::row_template::RowTemplate;
use demask_datasets::prompts::template_worker::{MOST_MEMORY, Rendered, TemplateJob};

/// Answers one job after another until the input ends.
///
/// # Errors
/// Any error of the pipes; an error if the memory limit cannot be set.
pub fn serve() -> anyhow::Result<ExitCode> {
    bound_memory()?;
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

/// Limits this process to a fixed amount of memory beyond its present use, and disables core dumps.
fn bound_memory() -> anyhow::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: the call returns a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let most = pages
        .unwrap_or(0)
        .saturating_mul(page)
        .saturating_add(MOST_MEMORY);
    for (resource, most) in [(libc::RLIMIT_AS, most), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the call reads the limit that is given.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error()).context("the memory limit could not be set");
        }
    }
    Ok(())
}
