/*
 * Faults on request, for builds made with PMC_FAULTS only: dying at a numbered
 * step, slow readers, and planted bugs that the tests must catch. In every
 * other build all of this is nothing.
 *
 * Environment, read once by each process:
 *   PMC_FAULT_STEP=n            SIGKILL at the n-th step passed (1 is the first)
 *   PMC_FAULT_STEP_NAME=name    ... counting only steps of this name
 *   PMC_FAULT_READ_DELAY_US=n   readers sleep n us where a writer may overtake
 *                               them, one time in seven
 *   PMC_FAULT_WRITE_DELAY_US=n  writers sleep n us where a reader may see half of
 *                               what they do, one time in seven
 *   PMC_FAULT_MUTANT=name       the planted bug of this name is live; all names:
 *                               grep -rn MUTANT
 */
#ifndef PMC_FAULT_H
#define PMC_FAULT_H

#if defined(PMC_FAULTS) && PMC_FAULTS
#include <stdbool.h>

/* Pass a step: a point at which a writer may die. */
void fault_step(const char *name);
/* Start counting steps anew, with other settings (a harness calls this). */
__attribute__((visibility("default"))) void pmc_fault_arm(long step,
                                                          const char *step_name);
/* What others do meanwhile: function is called, once, by the next to pass a step of
 * this name, which it may pass itself. */
__attribute__((visibility("default"))) void
pmc_fault_call(const char *step_name, void (*function)(void *context), void *context);
/* Where the name of the step goes that this process dies at: memory that others
 * can read afterwards. */
#define PMC_FAULT_NAME_BYTES 64u
__attribute__((visibility("default"))) void
pmc_fault_tell(char name_out[PMC_FAULT_NAME_BYTES]);
void fault_read_delay(void);
void fault_write_delay(void);
bool fault_mutant(const char *name);

#define STEP(name) fault_step(name)
#define READ_DELAY() fault_read_delay()
#define WRITE_DELAY() fault_write_delay()
#define MUTANT(name) fault_mutant(name)
#else
#define STEP(name) ((void)0)
#define READ_DELAY() ((void)0)
#define WRITE_DELAY() ((void)0)
#define MUTANT(name) false
#endif

#endif
