//! `demask verify`: compares a checkpoint with recorded tensors.

use std::process::ExitCode;

use demask_actors::engine::process::unexpected;
use demask_actors::home::Home;
use demask_api::{Answer, Request, TensorCheck};
use serde::Serialize;

use crate::args::VerifyArgs;
use crate::model::engine;
use crate::model::pulled::pulled;
use crate::terminal::print;

#[derive(Serialize)]
struct VerifyReport {
    passed: bool,
    tensors: Vec<TensorCheck>,
}

/// Compares and prints the differences. The exit code is 1 if one is beyond the tolerance.
///
/// # Errors
/// An error if a folder or file cannot be read, or if the engine does not start.
pub fn verify(home: &Home, options: VerifyArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Verify {
        checkpoint: pulled(home, "CHECKPOINT", &options.checkpoint)?,
        reference: std::path::absolute(&options.reference)?,
    };
    let tensors = engine::runtime()?.block_on(async {
        let engine = engine::start_engine(home, &options.device, &options.dtype).await?;
        let answer = engine.ask(&request).await?;
        engine.stop().await;
        match answer {
            Answer::Verified { tensors } => anyhow::Ok(tensors),
            other => Err(unexpected("verified", &other).into()),
        }
    })?;
    let passed = !tensors.is_empty() && tensors.iter().all(|tensor| tensor.passed);
    if options.output.json {
        print::json(&VerifyReport { passed, tensors })?;
    } else {
        show(passed, &tensors, &options.dtype)?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::exit::FAILED)
    })
}

fn show(passed: bool, tensors: &[TensorCheck], dtype: &str) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = tensors
        .iter()
        .map(|tensor| {
            let verdict = if tensor.passed { "ok" } else { "DIFFERS" };
            let numbers = [tensor.max_abs, tensor.max_rel].map(|number| format!("{number:.3e}"));
            vec![
                tensor.name.clone(),
                numbers[0].clone(),
                numbers[1].clone(),
                verdict.to_owned(),
            ]
        })
        .collect();
    print::table(&["tensor", "largest difference", "relative", ""], &rows)?;
    match (passed, tensors.len()) {
        (_, 0) => println!("the reference file contains no tensor that can be compared"),
        (true, count) => println!("{count} tensors, all within tolerance"),
        (false, count) => {
            let bad = tensors.iter().filter(|tensor| !tensor.passed).count();
            let tolerance = match dtype {
                "bf16" => "0.25 relative; losses 1e-2",
                _ => "1e-4 relative; tokens must be equal",
            };
            println!("{bad} of {count} tensors differ by more than the tolerance ({tolerance})");
        }
    }
    Ok(())
}
