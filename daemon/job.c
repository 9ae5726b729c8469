#include "daemon/job.h"

#include "daemon/job_record.h"

#include <stdlib.h>

void job_ranks_free(job_ranks *r)
{
    free(r->before);
    free(r->after);
    *r = (job_ranks){0};
}

void job_free(job *work)
{
    if (work == NULL)
        return;
    free(work->metrics);
    job_ranks_free(&work->ranks);
    free(work->known);
    free(work->known_vectors);
    free(work);
}

void job_enter(job *j, job_phase phase, size_t steps)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    job_status_phase(j->status, phase, steps);
    /* Catching up and flipping take turns, and a flip's record is its own: each phase is told once. */
    if (phase <= j->saved || phase == PHASE_FLIP)
        return;
    j->saved = phase;
    if (job_record_save(j, false, &err) != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_WARNING, "job_record", "job=%u message=%s", j->number,
                  log_value(text, sizeof text, err.message));
}
