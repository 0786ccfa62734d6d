"""Named configurations."""

from frugalrl.recipes.catalog import RECIPES, Recipe, build_config, default_recipe

__all__ = ["RECIPES", "Recipe", "build_config", "default_recipe"]
