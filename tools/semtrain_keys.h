/* The tables of a recipe's keys, beside those that the daemon's [train] has. */
#ifndef SEM_TOOLS_SEMTRAIN_KEYS_H
#define SEM_TOOLS_SEMTRAIN_KEYS_H

#include "daemon/config_keys.h"
#include "tools/semtrain_recipe.h"

#include <stdbool.h>
#include <stddef.h>

/* Sections train, mix and mine; places are in a recipe. */
extern const config_key recipe_keys[];
extern const size_t recipe_key_count;

/* Sections data and eval; places are in a recipe_set. "file" is not among them. */
extern const config_key recipe_set_keys[];
extern const size_t recipe_set_key_count;

#endif
