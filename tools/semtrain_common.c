#include "tools/semtrain.h"

#include <inttypes.h>

enum { TOLD_MAX = 20 /* malformed lines that are told one by one */ };

/* A data_report. */
static void tell_malformed(void *context, const char *file, uint64_t line, const char *why)
{
    semtrain *t = context;
    if (t->malformed++ >= TOLD_MAX)
        return;
    progress_clear(&t->bar);
    fprintf(stderr, "semtrain: skipped %s:%" PRIu64 ": %s%s\n", file, line, why,
            t->malformed == TOLD_MAX ? " (further ones are only counted)" : "");
}

sem_status semtrain_recipe(semtrain *t, const char *path, recipe *out, sem_error *err)
{
    sem_status status = recipe_load(out, path, t->overrides, t->override_count, err);
    for (size_t i = 0; i < out->set_count && status == SEM_OK; i++) {
        out->sets[i].data.report = tell_malformed;
        out->sets[i].data.context = t;
    }
    return status;
}

sem_status semtrain_model(const recipe *r, model **out, sem_error *err)
{
    *out = NULL;
    if (r->train.model[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "train.model is empty (expected the directory of a model)");
    return model_open(out, r->train.model, NULL, NULL, err);
}

sem_status semtrain_mix_set(semtrain *t, const recipe *r, const model *base, const recipe_set *set, mix_set *out,
                            mix_domains **domains, sem_error *err)
{
    if (set->domains > 0 && !set->by_domain)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data %s: domains is given, and by_domain is false", set->name);
    *out = (mix_set){.data = &set->data,
                     .size = set->pairs,
                     .weight = set->weight,
                     .by_domain = set->by_domain,
                     .mixed_share = set->mixed_share};
    if (set->domains == 0)
        return SEM_OK;
    const mix_domains_options options = {.model = base,
                                         .domains = set->domains,
                                         .threads = r->train.threads,
                                         .nice = {.added = (int)r->train.nice},
                                         .seed = r->daemon.train.seed};
    progress_show(&t->bar, "finding domains", -1, "%s", set->name);
    sem_status status = mix_domains_train(domains, &options, &set->data, err);
    out->domains = mix_domains_assign;
    out->context = *domains;
    return status;
}

sem_status semtrain_output_begin(const char *output, char temporary[FILES_PATH_MAX], sem_error *err)
{
    sem_status status = files_join(temporary, err, "%s.tmp-saved", output);
    return status == SEM_OK ? files_remove_folder(temporary, err) : status; /* of a run that was killed */
}

sem_status semtrain_output_end(const char *output, const char *temporary, sem_status status, sem_error *err)
{
    if (status == SEM_OK)
        status = model_check(temporary, NULL, err);
    if (status == SEM_OK && rename(temporary, output) != 0)
        status = files_fail(err, "rename", temporary);
    if (status != SEM_OK)
        files_remove_folder(temporary, NULL);
    return status == SEM_OK ? files_sync_parent(output, err) : status;
}
