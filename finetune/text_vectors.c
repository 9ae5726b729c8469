#include "finetune/text_vectors.h"

#include "base/checked.h"

sem_status text_vectors(const model *m, const data_text *texts, size_t count, bool as_query, unsigned threads,
                        niceness nice, float **out, sem_error *err)
{
    const model_config *c = model_get_config(m);
    bulk_text *listed = checked_realloc(NULL, count + 1, sizeof *listed);
    *out = checked_alloc_floats(count + 1, c->dim);
    sem_status status = listed != NULL && *out != NULL ? SEM_OK : sem_fail_memory(err, "the vectors of texts");
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        listed[i] = (bulk_text){texts[i].bytes, texts[i].length};
    if (status == SEM_OK) {
        const bulk_job job = {.model = m,
                              .prompt = as_query ? model_config_query_prompt(c) : model_config_document_prompt(c),
                              .texts = listed,
                              .count = count,
                              .threads = threads,
                              .nice = nice,
                              .out = *out};
        status = bulk_encode(&job, err);
    }
    free(listed);
    if (status != SEM_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

double text_vectors_cosine(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}
