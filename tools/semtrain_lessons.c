/* What is learnt from which data set, and what makes no sense. */
#include "tools/semtrain.h"

#include <string.h>

static sem_status check_form(const recipe_set *set, loss_name name, sem_error *err)
{
    const bool graded = set->data.form == DATA_STS;
    if (name == LOSS_MNRL && graded)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data %s: the loss mnrl takes pairs that match, and those of form sts are graded: the loss "
                        "cosent goes by grades",
                        set->name);
    if (name == LOSS_COSENT && !graded)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data %s: the loss cosent goes by the scores of form sts, and form %s has none", set->name,
                        set->form);
    return SEM_OK;
}

/* What only the ranking loss looks at. */
static sem_status check_ranking_keys(const recipe_set *set, loss_name name, sem_error *err)
{
    const struct {
        const char *name;
        bool given;
    } keys[] = {{"negative", set->negative[0] != '\0'},
                {"label", set->label[0] != '\0' && set->data.form != DATA_LABELLED},
                {"id", set->id[0] != '\0'},
                {"by_domain", set->by_domain}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].given && name != LOSS_MNRL)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "data %s: %s is about negatives, and the loss %s has none: leave it out", set->name,
                            keys[i].name, loss_name_text(name));
    return SEM_OK;
}

/* Texts that differ in what they mean cannot have one vector. */
static sem_status check_target(const recipe_set *set, const mix_lesson *lesson, sem_error *err)
{
    if (lesson->each && lesson->loss != LOSS_MSE)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data %s: target = each is of the loss mse, and the set's is %s: leave it out", set->name,
                        loss_name_text(lesson->loss));
    if (lesson->loss == LOSS_MSE && !lesson->each && (set->data.form == DATA_STS || set->data.form == DATA_LABELLED))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data %s: the texts of a pair of form %s do not mean the same, and with target = anchor the "
                        "loss mse would give them one vector: target = each gives each its own",
                        set->name, set->form);
    return SEM_OK;
}

sem_status semtrain_lesson(const recipe_set *set, loss_name usual, mix_lesson *out, sem_error *err)
{
    *out = (mix_lesson){.loss = set->data.form == DATA_STS ? LOSS_COSENT : usual,
                        .each = strcmp(set->target, "each") == 0};
    loss_name_parse(set->loss, &out->loss); /* "auto" leaves it */
    sem_status status = check_form(set, out->loss, err);
    if (status == SEM_OK)
        status = check_target(set, out, err);
    return status == SEM_OK ? check_ranking_keys(set, out->loss, err) : status;
}

/* What [train] says of the ranking loss where no set has it. */
static sem_status check_ranking_settings(const recipe *r, sem_error *err)
{
    const train_config *c = &r->daemon.train;
    const struct {
        const char *name;
        bool given;
    } keys[] = {{"symmetric", c->symmetric},
                {"margin", c->margin > 0},
                {"scale_kind", c->scale_kind != MNRL_SCALE_FIXED},
                {"frequency", c->frequency},
                {"guide", c->guide[0] != '\0'}};
    const char *given = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        given = keys[i].given ? keys[i].name : given;
    if (given == NULL)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "train.%s is of the loss mnrl, which no data set has: leave it out",
                    given);
}

/* A batch of all data sets has one loss. */
static sem_status check_mixed_batches(const mix_lesson *lessons, size_t count, sem_error *err)
{
    for (size_t i = 1; i < count; i++) {
        if (lessons[i].loss != lessons[0].loss)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "mix.cross_dataset puts pairs of all data sets into a batch, and a batch has one loss: "
                            "here are %s and %s",
                            loss_name_text(lessons[0].loss), loss_name_text(lessons[i].loss));
        if (lessons[i].each != lessons[0].each)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "mix.cross_dataset puts pairs of all data sets into a batch, and a batch has one target: "
                            "here are anchor and each");
    }
    if (lessons[0].loss == LOSS_COSENT && count > 1)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "mix.cross_dataset would compare the scores of different data sets with each other: the loss "
                        "cosent takes batches of one");
    return SEM_OK;
}

static bool has_loss(const mix_lesson *lessons, size_t count, loss_name name)
{
    for (size_t i = 0; i < count; i++)
        if (lessons[i].loss == name)
            return true;
    return false;
}

static sem_status check_teacher(const recipe *r, bool taught, sem_error *err)
{
    if (taught == (r->train.teacher[0] != '\0') && (taught || r->train.teacher_vectors[0] == '\0'))
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    taught ? "train.teacher is empty (expected the directory of the model that the loss mse goes by)"
                           : "train.teacher and train.teacher_vectors are of the loss mse, which no data set has: "
                             "leave them out");
}

sem_status semtrain_check_lessons(const recipe *r, const mix_lesson *lessons, size_t count, sem_error *err)
{
    sem_status status = check_teacher(r, has_loss(lessons, count, LOSS_MSE), err);
    if (status == SEM_OK && r->train.guide_vectors[0] != '\0' && r->daemon.train.guide[0] == '\0')
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "train.guide_vectors is given, and train.guide names no model");
    if (status == SEM_OK && !has_loss(lessons, count, LOSS_MNRL))
        status = check_ranking_settings(r, err);
    return status == SEM_OK && r->mix.cross_dataset ? check_mixed_batches(lessons, count, err) : status;
}
