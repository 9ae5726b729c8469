/* Models beside the one that is trained: a teacher, a student as wide as it, a guide. */
#include "model/model_widen.h"
#include "tools/semtrain.h"

#include <stdlib.h>
#include <string.h>

/* Of kept_options. */
static void tell_kept(void *context, const char *message)
{
    semtrain *t = context;
    progress_clear(&t->bar);
    fprintf(stderr, "semtrain: %s\n", message);
}

sem_status semtrain_kept(semtrain *t, const recipe *r, const char *dir, const char *path, kept_vectors **out,
                         sem_error *err)
{
    const kept_options options = {.model = dir,
                                  .path = path,
                                  .threads = r->train.threads,
                                  .nice = {.added = (int)r->train.nice},
                                  .cancel = t->cancel,
                                  .tell = tell_kept,
                                  .context = t};
    progress_show(&t->bar, "reading vectors", -1, "%s", path != NULL ? path : dir);
    return kept_vectors_open(out, &options, err);
}

sem_status semtrain_teacher(semtrain *t, const recipe *r, kept_vectors **out, sem_error *err)
{
    char path[FILES_PATH_MAX];
    *out = NULL;
    if (r->train.teacher[0] == '\0')
        return SEM_OK;
    sem_status status = r->train.teacher_vectors[0] != '\0' ? files_join(path, err, "%s", r->train.teacher_vectors)
                                                            : files_join(path, err, "%s.teacher", r->train.output);
    return status == SEM_OK ? semtrain_kept(t, r, r->train.teacher, path, out, err) : status;
}

sem_status semtrain_guide(semtrain *t, const recipe *r, kept_vectors **out, sem_error *err)
{
    const char *path = r->train.guide_vectors;
    *out = NULL;
    if (r->daemon.train.guide[0] == '\0')
        return SEM_OK;
    return semtrain_kept(t, r, r->daemon.train.guide, path[0] != '\0' ? path : NULL, out, err);
}

sem_status semtrain_widened(semtrain *t, const recipe *r, const model *m, size_t width, model **out, sem_error *err)
{
    char path[FILES_PATH_MAX];
    *out = NULL;
    sem_status status = semtrain_start_path(r, path, err);
    if (status != SEM_OK)
        return status;
    progress_show(&t->bar, "adding a projection", -1, "%zu to %zu", model_get_config(m)->dim, width);
    status = files_remove_folder(path, err); /* of a run that was killed */
    if (status == SEM_OK)
        status = model_save_widened(m, path, width, r->daemon.train.seed, err);
    if (status == SEM_OK)
        status = model_open(out, path, NULL, NULL, err);
    if (status != SEM_OK)
        files_remove_folder(path, NULL);
    return status;
}

sem_status semtrain_start_path(const recipe *r, char path[FILES_PATH_MAX], sem_error *err)
{
    return files_join(path, err, "%s.tmp-widened", r->train.output);
}
