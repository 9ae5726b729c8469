/* The model directories that generations name: whole, and of the width of their vectors. */
#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"
#include "model/towers.h"
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

/* Where the generation's model for documents, or for queries, lies. */
static sem_status tower_of(const verify *v, const store_generation *g, model_tower which, char out[FILES_PATH_MAX],
                           sem_error *err)
{
    char folder[FILES_PATH_MAX];
    const char *name = which == TOWER_QUERY ? store_generation_query_model(g) : g->model;
    sem_status status = files_join(folder, err, "%s/models/%s", v->s.path, name);
    return status == SEM_OK ? towers_folder(out, folder, which, err) : status;
}

static sem_status check_models(verify *v, const store_generation *g, sem_error *err)
{
    char documents[FILES_PATH_MAX], queries[FILES_PATH_MAX];
    sem_error failed;
    sem_status status = tower_of(v, g, TOWER_DOCUMENT, documents, err);
    if (status == SEM_OK)
        status = tower_of(v, g, TOWER_QUERY, queries, err);
    if (status != SEM_OK)
        return status;
    if (open_model(documents, g->dim, &failed) != SEM_OK)
        verify_report(v, "generation %u: its model %s cannot be opened: %s", g->number, g->model, failed.message);
    if (strcmp(documents, queries) != 0 && open_model(queries, g->dim, &failed) != SEM_OK)
        verify_report(v, "generation %u: its query model %s cannot be opened: %s", g->number,
                      store_generation_query_model(g), failed.message);
    return SEM_OK;
}

sem_status verify_models(verify *v, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < v->generation_count && status == SEM_OK; i++)
        if (v->generations[i].state != GENERATION_RETIRED)
            status = check_models(v, &v->generations[i], err);
    return status;
}
