/*
 * Faults on request; see fault.h. Compiled to nothing without PMC_FAULTS.
 */
#include "fault.h"

#if defined(PMC_FAULTS) && PMC_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    _Atomic int ready;
    _Atomic long steps;
    _Atomic long reads;
    _Atomic long writes;
    long die_at;
    long read_delay_us;
    long write_delay_us;
    char *told; /* see pmc_fault_tell() */
    void (*call)(void *context);
    void *call_context;
    char call_name[PMC_FAULT_NAME_BYTES];
    char step_name[PMC_FAULT_NAME_BYTES];
    char mutant[PMC_FAULT_NAME_BYTES];
} faults;

static void
copy_name(char *name_out, size_t capacity, const char *name)
{
    name_out[0] = '\0';
    if (name)
        strncat(name_out, name, capacity - 1);
}

static long
environment_long(const char *name)
{
    const char *text = getenv(name);

    return text ? strtol(text, NULL, 10) : 0;
}

static void
read_environment(void)
{
    if (atomic_load(&faults.ready))
        return;
    faults.die_at = environment_long("PMC_FAULT_STEP");
    faults.read_delay_us = environment_long("PMC_FAULT_READ_DELAY_US");
    faults.write_delay_us = environment_long("PMC_FAULT_WRITE_DELAY_US");
    copy_name(faults.step_name, sizeof faults.step_name, getenv("PMC_FAULT_STEP_NAME"));
    copy_name(faults.mutant, sizeof faults.mutant, getenv("PMC_FAULT_MUTANT"));
    atomic_store(&faults.ready, 1);
}

void
pmc_fault_arm(long step, const char *step_name)
{
    read_environment();
    faults.die_at = step;
    copy_name(faults.step_name, sizeof faults.step_name, step_name);
    atomic_store(&faults.steps, 0);
}

void
pmc_fault_tell(char name_out[PMC_FAULT_NAME_BYTES])
{
    faults.told = name_out;
}

void
pmc_fault_call(const char *step_name, void (*function)(void *context), void *context)
{
    faults.call = function;
    faults.call_context = context;
    copy_name(faults.call_name, sizeof faults.call_name, step_name);
}

static void
call_at(const char *name)
{
    void (*call)(void *context) = faults.call;

    if (!call || strcmp(faults.call_name, name) != 0)
        return;
    faults.call = NULL;
    call(faults.call_context);
}

void
fault_step(const char *name)
{
    read_environment();
    call_at(name);
    if (faults.step_name[0] && strcmp(faults.step_name, name) != 0)
        return;
    if (atomic_fetch_add(&faults.steps, 1) + 1 != faults.die_at)
        return;
    if (faults.told)
        copy_name(faults.told, PMC_FAULT_NAME_BYTES, name);
    kill(getpid(), SIGKILL);
}

/* Sleep twice of fourteen times: at both ends of one change. */
static void
delay(long delay_us, _Atomic long *count)
{
    if (delay_us > 0 && atomic_fetch_add(count, 1) / 2 % 7 == 0) {
        struct timespec pause = {0, delay_us * 1000};

        nanosleep(&pause, NULL);
    }
}

void
fault_read_delay(void)
{
    read_environment();
    delay(faults.read_delay_us, &faults.reads);
}

void
fault_write_delay(void)
{
    read_environment();
    delay(faults.write_delay_us, &faults.writes);
}

bool
fault_mutant(const char *name)
{
    read_environment();
    return strcmp(faults.mutant, name) == 0;
}

#else
/* ISO C wants a declaration in every file. */
typedef int fault_is_off;
#endif
