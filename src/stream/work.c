#include "stream/work.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

enum { CANCEL_AGAIN_MS = 10, THREAD_STACK = 128 << 10 };

struct work {
	uv_async_t async;
	uv_timer_t timer;
	pthread_mutex_t lock;
	struct job *finished;  /* under lock: threads that ended */
	struct job *threads;   /* loop thread: all that run */
	int n_threads;
	int n_handles;
};

static int work_signal(void)
{
	return SIGRTMIN + 5;
}

static void on_signal(int sig)
{
	(void)sig; /* it only interrupts the system call */
}

/* A terminal or device sees the capabilities of who calls: nobody must gain ours through a delegated file. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	(void)syscall(SYS_capset, &h, d); /* of this thread only; giving up cannot fail */
}

static void *thread_main(void *arg)
{
	struct job *j = arg;
	struct work *w = j->w;
	if (!j->keep_caps)
		drop_capabilities();
	j->run(j);
	(void)pthread_mutex_lock(&w->lock);
	j->is_finished = 1;
	LL_PREPEND2(w->finished, j, f_next);
	(void)pthread_mutex_unlock(&w->lock);
	(void)uv_async_send(&w->async);
	return NULL;
}

static void on_async(uv_async_t *a)
{
	struct work *w = a->data;
	(void)pthread_mutex_lock(&w->lock);
	struct job *list = w->finished;
	w->finished = NULL;
	(void)pthread_mutex_unlock(&w->lock);
	while (list) {
		struct job *j = list;
		list = j->f_next;
		(void)pthread_join(j->thread, NULL);
		DL_DELETE(w->threads, j);
		w->n_threads--;
		j->done(j);
	}
}

static void on_timer(uv_timer_t *t)
{
	struct work *w = t->data;
	int left = 0;
	(void)pthread_mutex_lock(&w->lock);
	for (struct job *j = w->threads; j; j = j->next)
		if (j->is_cancelled && !j->is_finished) {
			(void)pthread_kill(j->thread, work_signal());
			left = 1;
		}
	(void)pthread_mutex_unlock(&w->lock);
	if (!left)
		(void)uv_timer_stop(t);
}

int work_new(uv_loop_t *loop, struct work **ret, struct err *e)
{
	struct work *w = calloc(1, sizeof *w);
	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	struct sigaction sa = { .sa_handler = on_signal }; /* no SA_RESTART: that is the point */
	(void)sigaction(work_signal(), &sa, NULL);
	(void)pthread_mutex_init(&w->lock, NULL);
	int rc = uv_async_init(loop, &w->async, on_async);
	if (rc < 0) {
		free(w);
		return err_set(e, rc, "uv_async_init: %s", uv_strerror(rc));
	}
	(void)uv_timer_init(loop, &w->timer);
	w->async.data = w->timer.data = w;
	uv_unref((uv_handle_t *)&w->async);
	w->n_handles = 2;
	*ret = w;
	return 0;
}

static void work_closed(uv_handle_t *h)
{
	struct work *w = h->data;
	if (--w->n_handles)
		return;
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

void work_close(struct work *w)
{
	uv_close((uv_handle_t *)&w->async, work_closed);
	uv_close((uv_handle_t *)&w->timer, work_closed);
}

static void pool_run(uv_work_t *req)
{
	struct job *j = req->data;
	j->run(j);
}

static void pool_done(uv_work_t *req, int status)
{
	struct job *j = req->data;
	(void)status; /* we never cancel queued work */
	j->done(j);
}

int work_pool(struct work *w, struct job *j)
{
	j->w = w;
	j->is_thread = j->is_finished = j->is_cancelled = 0;
	j->req.data = j;
	return uv_queue_work(w->async.loop, &j->req, pool_run, pool_done);
}

int work_thread(struct work *w, struct job *j)
{
	if (w->n_threads >= WORK_THREADS_MAX)
		return -EAGAIN;
	j->w = w;
	j->is_thread = 1;
	j->is_finished = j->is_cancelled = 0;
	pthread_attr_t attr;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, THREAD_STACK);
	int rc = pthread_create(&j->thread, &attr, thread_main, j);
	(void)pthread_attr_destroy(&attr);
	if (rc)
		return -rc;
	DL_APPEND(w->threads, j);
	w->n_threads++;
	return 0;
}

void work_cancel(struct job *j)
{
	struct work *w = j->w;
	if (!j->is_thread || j->is_cancelled)
		return;
	j->is_cancelled = 1;
	/* At once, and again until it is done: the first may come before the thread is within the call. */
	(void)pthread_mutex_lock(&w->lock);
	if (!j->is_finished)
		(void)pthread_kill(j->thread, work_signal());
	(void)pthread_mutex_unlock(&w->lock);
	(void)uv_timer_start(&w->timer, on_timer, CANCEL_AGAIN_MS, CANCEL_AGAIN_MS);
}
