"""Tasks for language models: prompts by seed, an answer and a check for each."""

from frugalrl.envs.lm.prompts import check_sides, eval_prompts, held_out, train_prompts
from frugalrl.envs.lm.task import Task
from frugalrl.envs.lm.tasks import TASKS, find_task, is_task

__all__ = ["TASKS", "Task", "check_sides", "eval_prompts", "find_task", "held_out", "is_task", "train_prompts"]
