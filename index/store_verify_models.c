/* The model directories that generations name: whole, and of the width of their vectors. */
#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"
#include "index/store_verify.h"

static sem_status open_model(const char *dir, uint32_t dim, sem_error *err)
{
    model_config config;
    tokenizer *tokens = NULL;
    safetensors *weights = NULL;
    sem_status status = model_config_read(&config, dir, err);
    if (status != SEM_OK)
        return status;
    status = tokenizer_open(&tokens, dir, config.vocab, err);
    tokenizer_close(tokens);
    if (status == SEM_OK)
        status = safetensors_open_folder(&weights, dir, err);
    safetensors_close(weights);
    if (status == SEM_OK && config.dim != dim)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "it makes vectors of %zu floats, its generation has %u",
                          (size_t)config.dim, dim);
    model_config_free(&config);
    return status;
}

sem_status verify_models(verify *v, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    sem_status status = SEM_OK;
    for (size_t i = 0; i < v->generation_count && status == SEM_OK; i++) {
        const store_generation *g = &v->generations[i];
        sem_error failed;
        if (g->state == GENERATION_RETIRED)
            continue;
        status = files_join(dir, err, "%s/models/%s", v->s.path, g->model);
        if (status == SEM_OK && open_model(dir, g->dim, &failed) != SEM_OK)
            verify_report(v, "generation %u: its model %s cannot be opened: %s", g->number, g->model, failed.message);
    }
    return status;
}
