/* Lines of a file in several requests of a size that the server takes. */
#ifndef SEM_TOOLS_SEMCTL_BATCHES_H
#define SEM_TOOLS_SEMCTL_BATCHES_H

#include "tools/semctl.h"

/* What is sent: requests of the command with its options and an array under the key. */
typedef struct batches {
    semctl *ctl;
    const command *command;
    const arguments *arguments;
    const char *key;
    bool empty_too; /* a file without lines is a request too, which tells what is wrong with the options */
    /* Takes what a request answered. */
    sem_status (*take)(void *context, const client_reply *reply, sem_error *err);
    void *context;
} batches;

/* One request with count packed elements. */
sem_status batches_send(const batches *b, const buffer *packed, size_t count, sem_error *err);

/* Packs one line as an element. */
typedef sem_status batches_convert(packer *p, const char *line, size_t length, sem_error *err);

/* Every line that is not empty of a file, or of standard input for "-", so many in one
 * request. An error of a line names the file and the line's number. */
sem_status batches_send_lines(const batches *b, const char *path, size_t most, batches_convert *convert,
                              sem_error *err);

#endif
