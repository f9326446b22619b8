//! A few made-up rows of each published benchmark in its own file formats. With them the whole path of every benchmark
//! can be run and tested without a download (`demask eval --embedded all`). Results on them measure nothing.

use std::io;
use std::path::Path;

/// A file of `embedded/` and its content.
type File = (&'static str, &'static [u8]);

/// Embeds the named files of `embedded/` into the program.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/embedded/", $name)))),*]
    };
}

/// Every file.
static FILES: [File; 45] = files![
    "arc-challenge/ARC-Challenge/test.jsonl",
    "clip-score/prompts.txt",
    "flickr30k/dataset_flickr30k.json",
    "flickr30k/flickr30k-images/1.png",
    "flickr30k/flickr30k-images/2.png",
    "geneval/evaluation_metadata.jsonl",
    "gpqa/gpqa_diamond.csv",
    "gpqa/gpqa_main.csv",
    "gpqa/worked_examples.txt",
    "gqa/images/n1.jpg",
    "gqa/images/n2.jpg",
    "gqa/testdev_balanced_questions.json",
    "gsm8k/test.jsonl",
    "gsm8k/train.jsonl",
    "image-reward/benchmark-prompts.json",
    "math-500/test.jsonl",
    "math/algebra/test.jsonl",
    "math/geometry/test.jsonl",
    "mmbench/MMBench_DEV_EN.tsv",
    "mme/MME_Benchmark_release_version/artwork/images/7.png",
    "mme/MME_Benchmark_release_version/artwork/questions_answers_YN/7.txt",
    "mme/MME_Benchmark_release_version/color/0001.png",
    "mme/MME_Benchmark_release_version/color/0001.txt",
    "mme/MME_Benchmark_release_version/existence/0001.png",
    "mme/MME_Benchmark_release_version/existence/0001.txt",
    "mme/MME_Benchmark_release_version/numerical_calculation/0001.png",
    "mme/MME_Benchmark_release_version/numerical_calculation/0001.txt",
    "mmlu/dev.jsonl",
    "mmlu/test.jsonl",
    "mmmu/MMMU_DEV_VAL.tsv",
    "pope/coco_pope_adversarial.json",
    "pope/coco_pope_popular.json",
    "pope/coco_pope_random.json",
    "pope/val2014/COCO_val2014_000000000001.png",
    "pope/val2014/COCO_val2014_000000000002.png",
    "seed/SEED-Bench-image/1_1",
    "seed/SEED-Bench-image/2_2",
    "seed/SEED-Bench.json",
    "truthfulqa/multiple_choice/validation.jsonl",
    "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
    "vqav2/v2_mscoco_val2014_annotations.json",
    "vqav2/val2014/COCO_val2014_000000000001.jpg",
    "vqav2/val2014/COCO_val2014_000000000002.jpg",
    "wise/cultural_common_sense.json",
    "wise/judge_prompt.txt",
];

/// Writes the files below `folder/benchmarks`, where benchmarks search theirs. Identical files are left alone.
///
/// # Errors
/// Any I/O error.
pub fn lay_down(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        let path = folder.join("benchmarks").join(name);
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // A half-written file could be read: the file is renamed when it is complete.
        let half = path.with_extension("part");
        std::fs::write(&half, bytes)?;
        std::fs::rename(&half, &path)?;
    }
    Ok(())
}
