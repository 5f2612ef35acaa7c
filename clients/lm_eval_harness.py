#!/usr/bin/env python3
"""lm-evaluation-harness against an edge: lm_eval_harness.py BASE_URL MODE...

Runs the tasks beside this file in every mode, through the model's name (NAME@MODE): one that compares log-likelihoods, and one
that generates. Prints a line a task, and fails if a figure is one that no working model would have, or if the harness gives up.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# No hub: the tokenizer is the server's, and the data lie here.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval  # noqa: E402 (the environment comes first)
from lm_eval.tasks import TaskManager  # noqa: E402

# Of four endings one is right, and of any words few are: what chance alone reaches.
TASKS = {"collm_facts": ("acc,none", 0.25), "collm_questions": ("exact_match,words", 0.0)}


def evaluate(base_url, model):
    arguments = {
        "base_url": f"{base_url}/completions",
        "model": model,
        "tokenizer_backend": "remote",
        "max_retries": 1,
        "max_length": 1024,
    }
    tasks = TaskManager(include_path=str(HERE / "lm_eval_tasks"), include_defaults=False)
    return lm_eval.simple_evaluate(
        model="local-completions", model_args=arguments, tasks=list(TASKS), task_manager=tasks, log_samples=False
    )["results"]


def main():
    _, base_url, *modes = sys.argv
    os.chdir(HERE)
    with urllib.request.urlopen(f"{base_url}/models") as models:
        name = json.load(models)["data"][0]["id"]
    for mode in modes:
        results = evaluate(base_url, f"{name}@{mode}")
        for task, (metric, chance) in TASKS.items():
            figure = results[task][metric]
            print(f"lm_eval {lm_eval.__version__}  {name}@{mode}  {task}  {metric.split(',')[0]} {figure:.3f}", flush=True)
            assert figure > chance, f"{task} in mode {mode}: {figure} is no better than chance"


if __name__ == "__main__":
    main()
