/* notifier.h - a Tcl notifier that waits in the thread that calls it.
 *
 * Tcl 8.6's own Unix notifier waits in a second thread: each event costs two context
 * switches. This one waits on an epoll set of the thread's own. It is process-global (Tcl has one set
 * of hooks) and serves every thread that runs Tcl.
 */
#ifndef AG_TK_NOTIFIER_H
#define AG_TK_NOTIFIER_H

#include <stddef.h>
#include <tcl.h>

/* Install the notifier, once per process. Call it on the thread that runs the Tcl main loop, while no
 * other thread is inside Tcl. `others` are the pthread_self() values of the threads to be asked whether
 * they run Tcl.
 *
 * File handlers that this thread already has (an open display's connection among them) are
 * handed over; that needs, and proves at run time, that Tcl's own notifier is the active one.
 *
 * Returns the number of handlers that were handed over, or -1 when nothing was changed; *ret_state
 * (static storage) then says why, and otherwise which notifier runs. */
int ag_tk_notifier_install(const Tcl_ThreadId *others, size_t n_others, const char **ret_state);

#endif
