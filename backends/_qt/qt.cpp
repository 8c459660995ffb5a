/* qt.cpp - asyncio as a guest in Qt's event loop; compiled once for each major version of Qt (AG_QT).
 *
 * One object of ours lives on the host's thread. It gets the guest's descriptor from a QSocketNotifier, everything else as
 * posted events, and looks at ag_prepare() whenever the thread's event dispatcher is about to block. A turn that is left
 * over is a posted event too: Qt serves the events that were in its queue when it began, then timers, sockets
 * and input, then the events that came meanwhile. So nobody's flood keeps the other side from its turn.
 *
 * Two signals of the dispatcher are watched, since its Unix kind says that it blocks only when it will: under a flood of
 * posted events it never does, but it says `awake` in each round.
 *
 * Qt deletes no object that is inside its own event handler; a host that is closed in there is deleted when the
 * outermost handler has returned.
 *
 * Only QtCore is linked, and by its SONAME: whoever loads this must have loaded a Qt before, which is then the one that it
 * uses. Qt calls back without the GIL, and the core takes it.
 */
#include "asyncio_guest.h"

#include <atomic>
#include <cerrno>

#include <QtCore/QAbstractEventDispatcher>
#include <QtCore/QCoreApplication>
#include <QtCore/QEvent>
#include <QtCore/QEventLoop>
#include <QtCore/QSocketNotifier>
#include <QtCore/QThread>

#define AG_STRING_(x) #x
#define AG_STRING(x) AG_STRING_(x)
#define AG_CONCAT_(a, b) a##b
#define AG_CONCAT(a, b) AG_CONCAT_(a, b)
#define AG_NAME "qt" AG_STRING(QT_VERSION_MAJOR)

namespace {

struct Types {
    QEvent::Type turn, post, call;
};

QEvent::Type
new_type()
{
    return static_cast<QEvent::Type>(QEvent::registerEventType());
}

const Types &
types()
{
    static const Types all = {new_type(), new_type(), new_type()};
    return all;
}

class Call : public QEvent {
public:
    Call(void (*fn)(void *), void *arg) : QEvent(types().call), fn(fn), arg(arg) {}
    void (*const fn)(void *);
    void *const arg;
};

/* How long turns that max_iterations cuts short follow each other within one event, ns. */
constexpr int64_t BURST = 1000000;

class Host;

class Notifier : public QSocketNotifier {
public:
    Notifier(int fd, Host *host);
    bool event(QEvent *event) override;

private:
    Host *const host_;
};

class Host : public QObject {
public:
    Host(ag_guest *guest, QAbstractEventDispatcher *dispatcher, bool prepare);
    bool event(QEvent *event) override;
    void turn();
    void enqueue();
    void post(QEvent *event);
    int watch(int fd, bool on);
    void run();
    void quit();
    void close();

private:
    bool due() const;
    void about_to_block();
    void look();
    void died();
    void leave();

    ag_guest *guest_;               // NULL once closed
    QMetaObject::Connection block_, awake_, gone_;
    Notifier *notifier_ = nullptr;
    const bool prepare_;            // strategy watch: ask ag_prepare
    bool queued_ = false;           // a `turn` event that counts is in Qt's queue
    std::atomic<int> posted_{0};    // events of ours in Qt's queue
    int depth_ = 0;                 // handlers of ours on the stack
    QEventLoop *loop_ = nullptr;    // run's, ...
    int level_ = 0;                 // ... or the depth of nested loops in the application's own
    bool quitting_ = false;         // that one is to end when what is nested in it has
};

/* ---------------------------------------------------------------------------------------------- Qt calls us */

Notifier::Notifier(int fd, Host *host) : QSocketNotifier(fd, QSocketNotifier::Read, host), host_(host) {}

bool
Notifier::event(QEvent *event)
{
    if (event->type() != QEvent::SockAct) {
        return QSocketNotifier::event(event);
    }
    host_->turn();
    return true;
}

Host::Host(ag_guest *guest, QAbstractEventDispatcher *dispatcher, bool prepare) : guest_(guest), prepare_(prepare)
{
    setObjectName(QStringLiteral("asyncio-guest"));
    block_ = connect(dispatcher, &QAbstractEventDispatcher::aboutToBlock, this, [this] { about_to_block(); });
    awake_ = connect(dispatcher, &QAbstractEventDispatcher::awake, this, [this] { look(); });
    // With the application, or at the end of a thread of Qt's: no event comes after it.
    gone_ = connect(dispatcher, &QObject::destroyed, this, [this] { died(); });
}

void
Host::turn()
{
    const int64_t end = ag_now() + BURST;
    depth_++;
    do {
        queued_ = false;            // what is queued still is ignored: this turn sees all there is
        if (guest_ != nullptr) {
            ag_dispatch(guest_);    // may close the host
        }
        // A posted event for the rest would cost three system calls, more than a turn that max_iterations cuts short.
    } while (due() && ag_now() < end);
    leave();
}

/* A guest that waits behind the host's work is not; the core says no while a turn is on the stack. */
bool
Host::due() const
{
    return prepare_ && !queued_ && guest_ != nullptr && ag_prepare(guest_, nullptr);
}

bool
Host::event(QEvent *event)
{
    const QEvent::Type type = event->type();
    if (type == types().turn || type == types().post || type == types().call) {
        posted_--;
    }
    if (type == types().turn) {
        if (queued_) {
            turn();
        }
    } else if (type == types().post) {
        turn();
    } else if (type == types().call) {
        const Call *call = static_cast<Call *>(event);
        depth_++;
        call->fn(call->arg);
        leave();
    } else {
        return QObject::event(event);
    }
    return true;
}

void
Host::leave()
{
    if (--depth_ == 0 && guest_ == nullptr) {
        deleteLater();
    }
}

/* In each round of the dispatcher. No Python runs in here: who nested what in whom is Qt's business at this point. */
void
Host::look()
{
    if (quitting_) {
        quit();
    }
    if (due()) {
        enqueue();
    }
}

/* In a loop that is nested in the handler of a posted event, Qt's GLib dispatcher forgets the events that were behind
 * that one in the queue until somebody wakes it. */
void
Host::about_to_block()
{
    look();
    if (posted_ > 0 && thread()->loopLevel() > 1) {
        if (QAbstractEventDispatcher *dispatcher = QAbstractEventDispatcher::instance()) {
            dispatcher->wakeUp();
        }
    }
}

void
Host::died()
{
    if (guest_ != nullptr) {
        ag_host_died(guest_);       // closes the host, as a rule at once
    }
}

/* -------------------------------------------------------------------------------------------- the core calls us */

/* On any thread. */
void
Host::post(QEvent *event)
{
    posted_++;
    QCoreApplication::postEvent(this, event);
}

void
Host::enqueue()
{
    if (!queued_) {
        queued_ = true;
        post(new QEvent(types().turn));
    }
}

int
Host::watch(int fd, bool on)
{
    if (notifier_ == nullptr) {
        notifier_ = new Notifier(fd, this);
    }
    notifier_->setEnabled(on);
    return notifier_->isEnabled() == on ? 0 : -EIO;
}

void
Host::run()
{
    quitting_ = false;
    const QCoreApplication *app = QCoreApplication::instance();
    if (app != nullptr && app->thread() == thread() && thread()->loopLevel() == 0) {
        // What the application would run itself: its quit() and the end of its last window end it.
        level_ = 1;
        QCoreApplication::exec();
        level_ = 0;
    } else {
        QEventLoop loop;
        loop_ = &loop;
        loop.exec();
        loop_ = nullptr;
    }
}

void
Host::quit()
{
    if (loop_ != nullptr) {
        loop_->exit();
    } else if (level_ > 0) {
        // QCoreApplication::exit() ends all loops of the thread: none of the application's that is nested in ours.
        quitting_ = thread()->loopLevel() > level_;
        if (!quitting_) {
            QCoreApplication::exit();
        }
    }
}

void
Host::close()
{
    guest_ = nullptr;
    disconnect(block_);
    disconnect(awake_);
    disconnect(gone_);
    if (notifier_ != nullptr) {
        notifier_->setEnabled(false);
    }
    QCoreApplication::removePostedEvents(this);
    if (depth_ == 0) {
        delete this;
    }
}

int
qt_watch(void *host, int fd, int on)
{
    return static_cast<Host *>(host)->watch(fd, on != 0);
}

int
qt_again(void *host)
{
    static_cast<Host *>(host)->enqueue();
    return 0;
}

int
qt_post(void *host)
{
    static_cast<Host *>(host)->post(new QEvent(types().post));
    return 0;
}

int
qt_call(void *host, void (*fn)(void *), void *arg)
{
    static_cast<Host *>(host)->post(new Call(fn, arg));
    return 0;
}

int
qt_run(void *host)
{
    Py_BEGIN_ALLOW_THREADS
    static_cast<Host *>(host)->run();
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals();
}

void
qt_quit(void *host)
{
    static_cast<Host *>(host)->quit();
}

void
qt_close(void *host)
{
    static_cast<Host *>(host)->close();
}

int
qt_open(void **ret_host, const ag_open_args *args)
{
    if (ag_import() < 0) {
        return -1;
    }
    // The toolkit's object is the application, or what makes one: here, where nothing else can refuse the guest any more.
    if (QCoreApplication::instance() == nullptr && args->toolkit != nullptr && PyCallable_Check(args->toolkit)) {
        PyObject *app = PyObject_CallNoArgs(args->toolkit);
        if (app == nullptr) {
            return -1;
        }
        Py_DECREF(app);
    }
    if (QCoreApplication::instance() == nullptr) {
        PyErr_SetString(PyExc_RuntimeError, "there is no QApplication: make it before you start a guest in it");
        return -1;
    }
    const QObject *object = static_cast<QObject *>(args->native);
    if (object != nullptr && object->thread() != QThread::currentThread()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this Qt object lives in another thread: start the guest on that thread");
        return -1;
    }
    // A thread that Qt did not start has no dispatcher before its first loop.
    QEventLoop first;
    QAbstractEventDispatcher *dispatcher = QAbstractEventDispatcher::instance();
    if (dispatcher == nullptr) {
        PyErr_SetString(PyExc_RuntimeError, "Qt cannot run an event loop in this thread");
        return -1;
    }
    *ret_host = new Host(args->guest, dispatcher, args->strategy == AG_STRATEGY_WATCH);
    return 0;
}

const ag_host_ops qt_ops = {
    AG_ABI_VERSION,
    AG_HOST_WATCH | AG_HOST_PREPARE | AG_HOST_POST,
    AG_NAME,
    qt_open,
    qt_close,
    qt_watch,
    qt_again,
    qt_post,
    qt_call,
    qt_run,
    qt_quit,
};

/* --------------------------------------------------------------------------------------------------- the module */

int
module_exec(PyObject *module)
{
    PyObject *ops = PyCapsule_New(const_cast<ag_host_ops *>(&qt_ops), AG_OPS_CAPSULE, nullptr);
    const int err = PyModule_AddObjectRef(module, "ops", ops);
    Py_XDECREF(ops);
    return err < 0 ? err : PyModule_AddStringConstant(module, "qt_version", qVersion());
}

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void *>(module_exec)},
    {0, nullptr},
};

PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    "asyncio_guest.backends." AG_NAME "._" AG_NAME,
    "The backend " AG_NAME ".",
    0,
    nullptr,
    module_slots,
    nullptr,
    nullptr,
    nullptr,
};

} // namespace

PyMODINIT_FUNC
AG_CONCAT(PyInit__qt, AG_QT)(void)
{
    static_assert(AG_QT == QT_VERSION_MAJOR, "built against the headers of another Qt");
    return PyModuleDef_Init(&module_def);
}
