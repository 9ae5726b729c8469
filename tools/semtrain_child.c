#include "tools/semtrain_child.h"

#include "base/files.h"
#include "tools/semctl_text.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LOG_MOST = 16 << 20, LAST_WORDS = 300 /* bytes of a message */ };

static int start(const char *const *arguments, const char *log, pid_t *child)
{
    posix_spawn_file_actions_t files;
    int failed = posix_spawn_file_actions_init(&files);
    if (failed != 0)
        return failed;
    failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    if (failed == 0)
        failed = posix_spawnp(child, arguments[0], &files, NULL, (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

/* What the child said last, as one line. */
static void last_words(const char *log, char out[LAST_WORDS + 4])
{
    char *text = NULL;
    size_t size = 0;
    out[0] = '\0';
    if (files_read(log, LOG_MOST, &text, &size, NULL) != SEM_OK)
        return;
    const size_t from = size > LAST_WORDS ? size - LAST_WORDS : 0;
    char *line = text_clean(text + from, size - from, 0);
    if (line != NULL)
        snprintf(out, LAST_WORDS + 4, "%s%s", from > 0 ? "..." : "", line);
    free(line);
    free(text);
}

sem_status child_run(const char *const *arguments, const char *package, const char *log, sem_error *err)
{
    pid_t child;
    int ended;
    char said[LAST_WORDS + 4];
    const int failed = start(arguments, log, &child);
    if (failed == ENOENT)
        return sem_fail(err, SEM_NOT_FOUND, "there is no program %s (it is in the package %s)", arguments[0], package);
    if (failed != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot start %s: %s", arguments[0], strerror(failed));
    while (waitpid(child, &ended, 0) < 0)
        if (errno != EINTR)
            return sem_fail(err, SEM_INTERNAL, "cannot wait for %s: %s", arguments[0], strerror(errno));
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0)
        return SEM_OK;
    last_words(log, said);
    if (WIFSIGNALED(ended))
        return sem_fail(err, SEM_INTERNAL, "%s was ended by signal %d; it said: %s", arguments[0], WTERMSIG(ended),
                        said);
    return sem_fail(err, SEM_INTERNAL, "%s failed with status %d; it said: %s", arguments[0], WEXITSTATUS(ended), said);
}
