#!/usr/bin/env python3
"""`demask score` against the published scorers, on made-up answers; see score_rate.sh.

    python3 tests/benches/score_rate.py target/release/demask [TIMES] [captions|math|mmmu|vqav2 ...]

Prints a JSON line a round: seconds of both, how many times as fast, and in how many verdicts the two agree.
"""

import ast
import importlib.metadata
import importlib.util
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL_WORDS = "a the man in dog is and of with on woman two red blue people girl boy white black standing sitting shirt street".split()


def installed(package, path):
    """A file of an installed package, found without importing the package."""
    files = importlib.metadata.files(package) or []
    return next(file.locate() for file in files if str(file) == path)


def module(package, path):
    """A module of an installed package by its file, without what the package itself imports."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, installed(package, path))
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def functions(package, path, names, known):
    """Some functions of an installed module whose other imports are not there."""
    tree = ast.parse(Path(installed(package, path)).read_text())
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    exec(compile(ast.Module(kept, []), path, "exec"), known)
    return known


class Captions:
    """31,014 pictures with five references each: as many as Flickr30k's."""

    sizes = [31014]

    def __init__(self, count, draw):
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = SMALL_WORDS + ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(18000)]
        weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(len(words))))
        say = lambda count: draw.choices(words, cum_weights=weights, k=count)
        self.predictions, self.references = [], []
        for _ in range(count):
            references = [say(max(4, min(30, int(draw.gauss(12, 4))))) for _ in range(5)]
            guess = list(draw.choice(references))
            for _ in range(3):
                guess[draw.randrange(len(guess))] = say(1)[0]
            written = lambda words: " ".join(words).capitalize() + " ."
            self.predictions.append(written(guess))
            self.references.append([written(one) for one in references])

    def lines(self):
        return [{"kind": "corpus", "predictions": self.predictions, "references": self.references}]

    def official(self):
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

        def score():
            tokenizer = PTBTokenizer()
            known = tokenizer.tokenize(
                {at: [{"caption": one} for one in all] for at, all in enumerate(self.references)}
            )
            guessed = tokenizer.tokenize({at: [{"caption": one}] for at, one in enumerate(self.predictions)})
            bleu, _ = Bleu(4).compute_score(known, guessed, verbose=0)
            rouge, _ = Rouge().compute_score(known, guessed)
            cider, _ = Cider().compute_score(known, guessed)
            return [*bleu, float(rouge), float(cider)]

        return score

    def ours(self, verdicts):
        scores = verdicts[0]["verdict"]["official"]
        return [*scores["Bleu"], scores["ROUGE_L"], scores["CIDEr"]]

    scorer = "cider"


class Vqav2:
    """Answers of a few words, ten people's answers each."""

    sizes, scorer = [200_000], "vqav2"

    def __init__(self, count, draw):
        answers = "yes no 2 two red blue a_dog the_table don't man's 1,000 left right on_the_street t-shirt pizza? frisbee".split()
        say = lambda: draw.choice(answers).replace("_", " ")
        self.rows = []
        for _ in range(count):
            usual = say()
            self.rows.append((say() if draw.random() < 0.4 else usual, [usual if draw.random() < 0.6 else say() for _ in range(10)]))

    def lines(self):
        return [{"kind": "pair", "prediction": said, "answers": answers} for said, answers in self.rows]

    def official(self):
        processor = module("lmms_eval", "lmms_eval/tasks/_task_utils/vqa_eval_metric.py").EvalAIAnswerProcessor()
        import datetime, statistics

        import_free = {"EvalAIAnswerProcessor": lambda: processor, "statistics": statistics, "datetime": datetime, "json": json}
        known = functions("lmms_eval", "lmms_eval/tasks/vqav2/utils.py", {"vqav2_process_results"}, import_free)

        def score():
            each = []
            for number, (said, answers) in enumerate(self.rows):
                document = {"question_id": number, "answers": [{"answer": one, "answer_id": at} for at, one in enumerate(answers)]}
                each.append(round(known["vqav2_process_results"](document, [said])["exact_match"], 6))
            return each

        return score

    def ours(self, verdicts):
        return [round(one["verdict"]["lmms_eval"], 6) for one in verdicts]


class Mmmu:
    """Replies to choices, 847 of 900, and to open questions."""

    sizes, scorer = [900, 90_000], "mmmu"

    def __init__(self, count, draw):
        self.rows = []
        words = SMALL_WORDS + ["answer", "is", "therefore", "3.5", "1,200", "2e5", "option"]
        say = lambda least, most: " ".join(draw.choices(words, k=draw.randint(least, most)))
        for number in range(count):
            options = [say(1, 4) for _ in range(4)]
            letter = draw.choice("ABCD")
            replies = [letter, f"({letter})", f"The answer is {letter}.", options["ABCD".index(letter)] + " " + say(4, 9), say(5, 20)]
            self.rows.append((draw.choice(replies), options if number % 17 else None, str(draw.randint(1, 900))))

    def lines(self):
        choice = lambda row: {"kind": "choice", "response": row[0], "options": row[1]}
        opened = lambda row: {"kind": "open", "response": row[0], "answer": row[2]}
        return [choice(row) if row[1] else opened(row) for row in self.rows]

    def official(self):
        matching = module("lmms_eval", "lmms_eval/tasks/_task_utils/mmmu_mcq_utils.py")
        guess = type("Guess", (), {"choice": staticmethod(lambda of: "RANDOM")})
        matching.random = guess
        names = {"parse_multi_choice_response", "parse_open_response", "normalize_str", "extract_numbers", "check_is_number", "eval_open"}
        known = {"re": re, "random": guess, "parse_mmmu_multi_choice_response": matching.parse_mmmu_multi_choice_response}
        known = functions("lmms_eval", "lmms_eval/tasks/mmmu/utils.py", names, known)

        def score():
            each = []
            for reply, options, answer in self.rows:
                if options:
                    letters = [chr(65 + at) for at in range(len(options))]
                    each.append(known["parse_multi_choice_response"](reply, letters, dict(zip(letters, options))))
                else:
                    each.append(bool(known["eval_open"](answer, known["parse_open_response"](reply))))
            return each

        return score

    def ours(self, verdicts):
        said = lambda verdict: verdict["lmms_eval"] if "lmms_eval" in verdict else verdict["official_correct"]
        return [said(one["verdict"]) for one in verdicts]


class Math:
    """Answers of competitions: numbers, fractions, radicals, polynomials, intervals."""

    sizes, scorer = [5000], "math"

    def __init__(self, count, draw):
        number = lambda: draw.randint(-40, 99)
        forms = [
            lambda: str(number()),
            lambda: f"\\frac{{{number()}}}{{{draw.randint(2, 30)}}}",
            lambda: f"{draw.randint(2, 9)}\\sqrt{{{draw.randint(2, 30)}}}",
            lambda: f"x^{draw.randint(2, 4)} + {draw.randint(1, 9)}x - {draw.randint(1, 9)}",
            lambda: f"({number()}, {number()}]",
            lambda: f"\\frac{{{draw.randint(1, 9)} + \\sqrt{{{draw.randint(2, 19)}}}}}{{{draw.randint(2, 9)}}}",
            lambda: f"{draw.randint(1, 9)},{draw.randint(100, 999)}",
            lambda: f"{number()}.{draw.randint(1, 99)}",
        ]
        self.rows = []
        for _ in range(count):
            form = draw.choice(forms)
            gold = form()
            said = gold if draw.random() < 0.6 else form()
            completion = f"We compute, and so it is ${said}$.\nFinal Answer: The final answer is ${said}$. I hope it is correct."
            self.rows.append((completion, f"It follows that the answer is $\\boxed{{{gold}}}$.", gold))

    def lines(self):
        return [{"scorer": "math.completion", "prediction": said, "reference": solution} for said, solution, _ in self.rows]

    def official(self):
        minerva = module("lm_eval", "lm_eval/tasks/minerva_math/utils.py")

        def score():
            each = []
            for said, solution, gold in self.rows:
                found = minerva.process_results({"answer": minerva.normalize_final_answer(gold), "solution": solution}, [said])
                each.append((found["exact_match"], found["math_verify"]))
            return each

        return score

    def ours(self, verdicts):
        pair = lambda verdict: (verdict["minerva_math_v2"]["exact_match"], verdict["minerva_math_v3"]["math_verify"])
        return [pair(one["verdict"]) for one in verdicts]


CASES = {"captions": Captions, "math": Math, "mmmu": Mmmu, "vqav2": Vqav2}


def agreeing(one, other):
    near = lambda a, b: a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) < 1e-9)
    return sum(map(near, one, other))


def measure(name, count, demask, rounds):
    case = CASES[name](count, random.Random(7))
    try:
        official = case.official()
    except Exception as missing:
        print(json.dumps({"case": name, "left out": f"the published tool is not here: {missing!r}"}), flush=True)
        return
    with tempfile.TemporaryDirectory() as room:
        lines, out = Path(room) / "lines.jsonl", Path(room) / "out.jsonl"
        lines.write_text("".join(json.dumps(line) + "\n" for line in case.lines()))
        for number in range(rounds):
            began = time.perf_counter()
            with open(out, "w") as file:
                subprocess.run([demask, "score", case.scorer, str(lines), "--json"], stdout=file, stderr=subprocess.DEVNULL, check=True)
            ours = time.perf_counter() - began
            began = time.perf_counter()
            found = official()
            theirs = time.perf_counter() - began
            own = case.ours([json.loads(line) for line in out.read_text().splitlines()])
            told = {"case": name, "items": count, "round": number + 1, "demask s": round(ours, 3), "official s": round(theirs, 3)}
            print(json.dumps(told | {"times": round(theirs / ours, 1), "verdicts": len(found), "equal": agreeing(own, found)}), flush=True)


def main():
    demask, *rest = sys.argv[1:]
    rounds = int(rest.pop(0)) if rest and rest[0].isdigit() else 3
    for name in rest or CASES:
        for count in CASES[name].sizes:
            measure(name, count, demask, rounds)


if __name__ == "__main__":
    main()
