//! `demask render-templates`: for programs, not for people. Renders the templates that come as frames on standard input, within a
//! limit of memory (law L9): beyond it this process ends, and whoever asked knows why.

use std::process::ExitCode;

use anyhow::Context as _;
use demask_api::wire;
use demask_datasets::prompts::chat_template::{TemplateError, render_here};
use demask_datasets::prompts::row_template::RowTemplate;
use demask_datasets::prompts::template_worker::{MOST_MEMORY, Rendered, TemplateJob};

/// Answers one job after another until there is none.
///
/// # Errors
/// The pipes'; a limit that cannot be set.
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

/// Lets this process have so much more than it has, and leave no picture of its memory when that is not enough.
fn bound_memory() -> anyhow::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: asks for a number.
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
        // SAFETY: reads the limit that is given.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error()).context("a limit of memory could not be set");
        }
    }
    Ok(())
}
