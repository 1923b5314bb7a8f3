/* A Video4Linux capture device in user space, for machines on which no kernel module can be loaded.
 *
 *   gcc -shared -fPIC -O1 -o emulator.so v4l2_emulator.c -ldl
 *   LD_PRELOAD=emulator.so STREAMSEG_FAKE_V4L2=/dev/video97 STREAMSEG_FAKE_V4L2_CONTROL=file program
 *
 * It answers open, close, ioctl and poll for that one path, as a driver built on the kernel's videobuf2
 * does: pictures are taken at the device's rate whether somebody reads or not, into buffers that are queued, and
 * are lost where none is. Opened without O_NONBLOCK, VIDIOC_DQBUF sleeps, for good when nothing comes.
 *
 * The control file is read again at every call, so that it may change during the run. One statement per line:
 *
 *   format FOURCC WIDTH HEIGHT RATE_NUM RATE_DEN FIELD FILE
 *                    a mode; FILE holds its pictures, each behind its length in bytes (32 bits, little-endian);
 *                    they are delivered in turn, for ever; FIELD is an enum v4l2_field
 *   state run|stall|gone|busy|denied|novideo
 *                    deliver; deliver nothing; absent (open files are dead for good); in use; no permission;
 *                    no capture device
 *   generation N     another N than at open: the device was unplugged meanwhile
 *   damage none|flag|short
 *                    pictures are marked as erroneous; or hold only a third of their bytes
 *   stamps monotonic|none|future|past
 *                    time stamps with the monotonic flag, without; an hour ahead or behind with the flag
 *   poll yes|no      whether poll tells the truth; with no it always says at once that there is a picture
 *   optional yes|no  whether requests beyond those that FFmpeg needs are answered
 *   input STATUS     status bits of the video input, such as 2: no signal
 *   planes N [OFFSET]
 *                    a multi-planar device: frames lie in N planes, after OFFSET bytes of something else
 *   timings WIDTH HEIGHT
 *                    a digital input that receives this size: modes of other sizes cannot be set, and those of
 *                    this size only after the timings were
 *   signal ok|none|unstable|range
 *                    what the request for the timings answers
 *   change N         another N than at the subscription: the input's signal changed
 *   aspect Y X       the aspect of a pixel, height to width
 *   quantization N   an enum v4l2_quantization
 *   range MAX_WIDTH MAX_HEIGHT
 *                    sizes are listed as one range from each mode's size to this
 *   fail REQUEST ERRNO
 *                    every request of this number (the last byte of its ioctl, in decimal) fails with this error
 *   answer WIDTH HEIGHT
 *                    of all modes the device has only those of this size, whatever it lists
 *   used N           the bytes that every buffer (of a multi-planar device, plane) says to hold
 *   lost N           pictures that are lost after each one that is delivered
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MODES 16
#define HANDLES 8
#define BUFFERS 8
#define PLANES 3
#define SECOND 1000000000LL

struct mode {
    uint32_t code, width, height, rate_num, rate_den, field;
    char file[512];
};

struct control {
    struct mode modes[MODES];
    int mode_count, generation, no_poll, no_optional;
    uint32_t input, range_width, range_height, planes, offset, timings_width, timings_height;
    uint32_t aspect_y, aspect_x, quantization, answer_width, answer_height, used, lost;
    int change, fail_number, fail_code, has_used;
    char state[16], damage[16], stamps[16], signal[16];
};

struct handle {
    int fd, nonblocking, generation, mode, streaming, buffer_count;
    size_t buffer_size;
    uint8_t *memory;              /* our own mapping of the buffers */
    struct v4l2_buffer buffers[BUFFERS];
    struct v4l2_plane planes[BUFFERS][PLANES];
    size_t plane_size[PLANES];
    int subscribed, change;
    uint32_t timings_width, timings_height;
    int queued[BUFFERS], queued_count, done[BUFFERS], done_count;
    uint32_t sequence;
    long long next_ns;
    uint8_t *pictures;            /* the mode's file */
    size_t pictures_size, position;
};

static struct handle handles[HANDLES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static int (*real_ioctl)(int, unsigned long, ...);
static int (*real_poll)(struct pollfd *, nfds_t, int);

__attribute__((constructor)) static void find_real(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    real_poll = dlsym(RTLD_NEXT, "poll");
}

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void nap(long long ns) {
    struct timespec t = {ns / SECOND, ns % SECOND};
    nanosleep(&t, NULL);
}

static int fail(int code) {
    errno = code;
    return -1;
}

static void read_control(struct control *c) {
    char line[1024], code[8], word[16];
    const char *path = getenv("STREAMSEG_FAKE_V4L2_CONTROL");
    FILE *file = path ? fopen(path, "re") : NULL;
    memset(c, 0, sizeof *c);
    strcpy(c->state, "gone");
    strcpy(c->stamps, "monotonic");
    strcpy(c->signal, "ok");
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        struct mode *m = &c->modes[c->mode_count];
        if (c->mode_count < MODES && sscanf(line, "format %4s %u %u %u %u %u %511s", code, &m->width, &m->height,
                                            &m->rate_num, &m->rate_den, &m->field, m->file) == 7) {
            m->code = v4l2_fourcc(code[0], code[1], code[2], code[3]);
            c->mode_count++;
        }
        sscanf(line, "state %15s", c->state);
        sscanf(line, "damage %15s", c->damage);
        sscanf(line, "stamps %15s", c->stamps);
        sscanf(line, "generation %d", &c->generation);
        sscanf(line, "input %u", &c->input);
        sscanf(line, "range %u %u", &c->range_width, &c->range_height);
        sscanf(line, "planes %u %u", &c->planes, &c->offset);
        sscanf(line, "timings %u %u", &c->timings_width, &c->timings_height);
        sscanf(line, "signal %15s", c->signal);
        sscanf(line, "change %d", &c->change);
        sscanf(line, "aspect %u %u", &c->aspect_y, &c->aspect_x);
        sscanf(line, "quantization %u", &c->quantization);
        sscanf(line, "fail %d %d", &c->fail_number, &c->fail_code);
        sscanf(line, "answer %u %u", &c->answer_width, &c->answer_height);
        sscanf(line, "lost %u", &c->lost);
        c->has_used |= sscanf(line, "used %u", &c->used) == 1;
        if (sscanf(line, "poll %15s", word) == 1)
            c->no_poll = !strcmp(word, "no");
        if (sscanf(line, "optional %15s", word) == 1)
            c->no_optional = !strcmp(word, "no");
    }
    fclose(file);
}

static struct handle *handle_of(int fd) {
    for (int i = 0; i < HANDLES; i++)
        if (fd > 0 && handles[i].fd == fd)
            return &handles[i];
    return NULL;
}

static int is_dead(const struct handle *h, const struct control *c) {
    return !strcmp(c->state, "gone") || !c->mode_count || h->generation != c->generation;
}

static size_t picture_size(const struct mode *m) {
    size_t pixels = (size_t)m->width * m->height;
    switch (m->code) {
    case V4L2_PIX_FMT_GREY:
        return pixels;
    case V4L2_PIX_FMT_NV12:
    case V4L2_PIX_FMT_NV21:
    case V4L2_PIX_FMT_NV12M:
    case V4L2_PIX_FMT_YUV420:
    case V4L2_PIX_FMT_YVU420:
    case V4L2_PIX_FMT_YUV420M:
        return pixels * 3 / 2;
    case V4L2_PIX_FMT_RGB24:
    case V4L2_PIX_FMT_BGR24:
    case V4L2_PIX_FMT_NV24:
        return pixels * 3;
    case V4L2_PIX_FMT_XBGR32:
        return pixels * 4;
    default:
        return pixels * 2;
    }
}

static uint32_t line_length(const struct mode *m) {
    switch (m->code) {
    case V4L2_PIX_FMT_MJPEG:
        return 0;
    case V4L2_PIX_FMT_YUYV:
    case V4L2_PIX_FMT_UYVY:
    case V4L2_PIX_FMT_YVYU:
        return 2 * m->width;
    case V4L2_PIX_FMT_RGB24:
    case V4L2_PIX_FMT_BGR24:
        return 3 * m->width;
    case V4L2_PIX_FMT_XBGR32:
        return 4 * m->width;
    default:
        return m->width;
    }
}

static uint32_t kind_of(const struct control *c) {
    return c->planes ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
}

/* The bytes of a plane: luma, then what remains in equal parts. */
static size_t plane_length(const struct control *c, const struct mode *m, uint32_t plane) {
    size_t luma = (size_t)m->width * m->height, whole = picture_size(m);
    if (c->planes < 2)
        return whole;
    return plane ? (whole - luma) / (c->planes - 1) : luma;
}

/* Whether a mode can be had: of a digital input, only those of the size that its timings are set to. */
static int usable(const struct handle *h, const struct control *c, int mode) {
    if (c->answer_width)
        return c->modes[mode].width == c->answer_width && c->modes[mode].height == c->answer_height;
    if (!c->timings_width)
        return 1;
    uint32_t width = h->timings_width ? h->timings_width : c->modes[0].width;
    uint32_t height = h->timings_width ? h->timings_height : c->modes[0].height;
    return c->modes[mode].width == width && c->modes[mode].height == height;
}

/* --- pictures ------------------------------------------------------------------------------------------- */

static void load_pictures(struct handle *h, const struct mode *m) {
    FILE *file = fopen(m->file, "rbe");
    free(h->pictures);
    h->pictures = NULL;
    h->pictures_size = h->position = 0;
    if (!file)
        return;
    fseek(file, 0, SEEK_END);
    h->pictures_size = ftell(file);
    rewind(file);
    h->pictures = malloc(h->pictures_size);
    h->pictures_size = fread(h->pictures, 1, h->pictures_size, file);
    fclose(file);
}

static void next_picture(struct handle *h, const uint8_t **data, uint32_t *length) {
    if (h->position + 4 > h->pictures_size)
        h->position = 0;
    memcpy(length, h->pictures + h->position, 4);
    *data = h->pictures + h->position + 4;
    h->position += 4 + *length;
}

static void fill(struct handle *h, const struct control *c, int index, long long at_ns) {
    struct v4l2_buffer *b = &h->buffers[index];
    const uint8_t *data;
    uint32_t length;
    next_picture(h, &data, &length);
    if (length > h->buffer_size)
        length = h->buffer_size;
    if (!strcmp(c->damage, "short"))
        length /= 3;
    uint8_t *target = h->memory + index * h->buffer_size;
    uint32_t planes = c->planes ? c->planes : 1;
    for (uint32_t k = 0, left = length; k < planes; k++) {
        uint32_t part = plane_length(c, &c->modes[h->mode], k);
        if (part > left || k + 1 == planes)
            part = left;
        memcpy(target + c->offset, data, part);
        h->planes[index][k].bytesused = c->has_used ? c->used : part + c->offset;
        h->planes[index][k].data_offset = c->offset;
        target += h->plane_size[k];
        data += part;
        left -= part;
    }
    b->bytesused = c->has_used ? c->used : length;
    b->flags = V4L2_BUF_FLAG_MAPPED;
    b->field = h->mode < c->mode_count ? c->modes[h->mode].field : V4L2_FIELD_NONE;
    b->sequence = h->sequence;
    if (strcmp(c->stamps, "none"))
        b->flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (!strcmp(c->damage, "flag"))
        b->flags |= V4L2_BUF_FLAG_ERROR;
    if (!strcmp(c->stamps, "future"))
        at_ns += 3600 * SECOND;
    if (!strcmp(c->stamps, "past"))
        at_ns -= 3600 * SECOND;
    b->timestamp.tv_sec = at_ns / SECOND;
    b->timestamp.tv_usec = at_ns % SECOND / 1000;
}

/* What the device did since it was last looked at: a picture per period, into a queued buffer or lost. */
static void advance(struct handle *h, const struct control *c) {
    const struct mode *m = &c->modes[h->mode];
    long long now = now_ns(), period = SECOND * m->rate_den / m->rate_num;
    if (!h->streaming)
        return;
    if (strcmp(c->state, "run")) {
        h->next_ns = now + period;
        return;
    }
    for (; h->next_ns <= now; h->next_ns += period) {
        if (h->queued_count) {
            int index = h->queued[0];
            memmove(h->queued, h->queued + 1, --h->queued_count * sizeof(int));
            fill(h, c, index, h->next_ns);
            h->done[h->done_count++] = index;
            h->sequence += c->lost;
        } else {
            const uint8_t *data;
            uint32_t length;
            next_picture(h, &data, &length);
        }
        h->sequence++;
    }
}

/* --- requests ------------------------------------------------------------------------------------------- */

static int query_capability(const struct control *c, struct v4l2_capability *cap) {
    memset(cap, 0, sizeof *cap);
    strcpy((char *)cap->driver, "emulated");
    strcpy((char *)cap->card, "Emulated Grabber");
    strcpy((char *)cap->bus_info, "user-space");
    cap->device_caps = V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT;
    uint32_t video = c->planes ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE;
    cap->device_caps |= strcmp(c->state, "novideo") ? video : V4L2_CAP_META_CAPTURE;
    cap->capabilities = cap->device_caps | V4L2_CAP_DEVICE_CAPS | video;
    return 0;
}

static int enum_formats(const struct control *c, struct v4l2_fmtdesc *entry) {
    uint32_t found = 0;
    for (int i = 0; i < c->mode_count; i++) {
        int first = 1;
        for (int k = 0; k < i; k++)
            first &= c->modes[k].code != c->modes[i].code;
        if (first && found++ == entry->index) {
            uint32_t code = c->modes[i].code;
            entry->flags = code == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
            entry->pixelformat = code;
            memset(entry->description, 0, sizeof entry->description);
            snprintf((char *)entry->description, sizeof entry->description, "emulated %.4s", (char *)&code);
            return 0;
        }
    }
    return fail(EINVAL);
}

static int enum_sizes(const struct control *c, struct v4l2_frmsizeenum *entry) {
    uint32_t found = 0;
    for (int i = 0; i < c->mode_count; i++) {
        const struct mode *m = &c->modes[i];
        int first = m->code == entry->pixel_format;
        for (int k = 0; k < i; k++)
            first &= c->modes[k].code != m->code || c->modes[k].width != m->width || c->modes[k].height != m->height;
        if (!first || found++ != entry->index)
            continue;
        if (c->range_width) {
            entry->type = V4L2_FRMSIZE_TYPE_STEPWISE;
            entry->stepwise = (struct v4l2_frmsize_stepwise){m->width, c->range_width, 2,
                                                             m->height, c->range_height, 2};
        } else {
            entry->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            entry->discrete = (struct v4l2_frmsize_discrete){m->width, m->height};
        }
        return 0;
    }
    return fail(EINVAL);
}

static int enum_intervals(const struct control *c, struct v4l2_frmivalenum *entry) {
    uint32_t found = 0;
    for (int i = 0; i < c->mode_count; i++) {
        const struct mode *m = &c->modes[i];
        int same = c->range_width || (m->width == entry->width && m->height == entry->height);
        if (m->code == entry->pixel_format && same && found++ == entry->index) {
            entry->type = V4L2_FRMIVAL_TYPE_DISCRETE;
            entry->discrete = (struct v4l2_fract){m->rate_den, m->rate_num};
            return 0;
        }
    }
    return fail(EINVAL);
}

static void describe_format(const struct handle *h, const struct control *c, struct v4l2_format *f) {
    const struct mode *m = &c->modes[h->mode];
    memset(&f->fmt, 0, sizeof f->fmt);
    if (c->planes) {
        f->fmt.pix_mp.width = m->width;
        f->fmt.pix_mp.height = m->height;
        f->fmt.pix_mp.pixelformat = m->code;
        f->fmt.pix_mp.field = m->field;
        f->fmt.pix_mp.num_planes = c->planes;
        f->fmt.pix_mp.colorspace = V4L2_COLORSPACE_SMPTE170M;
        f->fmt.pix_mp.quantization = c->quantization;
        for (uint32_t k = 0; k < c->planes; k++) {
            f->fmt.pix_mp.plane_fmt[k].sizeimage = plane_length(c, m, k) + c->offset;
            f->fmt.pix_mp.plane_fmt[k].bytesperline = line_length(m);
        }
        return;
    }
    f->fmt.pix.width = m->width;
    f->fmt.pix.height = m->height;
    f->fmt.pix.pixelformat = m->code;
    f->fmt.pix.field = m->field;
    f->fmt.pix.bytesperline = line_length(m);
    f->fmt.pix.sizeimage = picture_size(m);
    f->fmt.pix.colorspace = V4L2_COLORSPACE_SMPTE170M;
    if (c->quantization) {
        f->fmt.pix.priv = V4L2_PIX_FMT_PRIV_MAGIC;
        f->fmt.pix.quantization = c->quantization;
    }
}

/* As drivers do: the pixel format if there is such a one, and of its sizes the nearest. */
static int set_format(struct handle *h, const struct control *c, struct v4l2_format *f) {
    long best = -1;
    for (int i = 0; i < c->mode_count; i++) {
        const struct mode *m = &c->modes[i];
        long away = labs((long)m->width - f->fmt.pix.width) + labs((long)m->height - f->fmt.pix.height);
        away += m->code == f->fmt.pix.pixelformat ? 0 : 1000000;
        if (usable(h, c, i) && (best < 0 || away < best)) {
            best = away;
            h->mode = i;
        }
    }
    describe_format(h, c, f);
    return 0;
}

static int set_rate(struct handle *h, const struct control *c, struct v4l2_streamparm *p, int set) {
    struct v4l2_fract *wanted = &p->parm.capture.timeperframe;
    const struct mode *now = &c->modes[h->mode];
    for (int i = 0; set && wanted->numerator && i < c->mode_count; i++) {
        const struct mode *m = &c->modes[i];
        int same = m->code == now->code && m->width == now->width && m->height == now->height;
        if (same && m->rate_num * wanted->numerator == wanted->denominator * m->rate_den)
            h->mode = i;
    }
    now = &c->modes[h->mode];
    memset(&p->parm, 0, sizeof p->parm);
    p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    *wanted = (struct v4l2_fract){now->rate_den, now->rate_num};
    return 0;
}

static int request_buffers(struct handle *h, const struct control *c, struct v4l2_requestbuffers *r) {
    size_t page = sysconf(_SC_PAGESIZE);
    uint32_t planes = c->planes ? c->planes : 1;
    if (r->type != kind_of(c) || r->memory != V4L2_MEMORY_MMAP)
        return fail(EINVAL);
    if (h->memory)
        munmap(h->memory, h->buffer_count * h->buffer_size);
    h->memory = NULL;
    h->queued_count = h->done_count = 0;
    h->buffer_size = 0;
    for (uint32_t k = 0; k < planes; k++) {
        h->plane_size[k] = (plane_length(c, &c->modes[h->mode], k) + c->offset + page - 1) / page * page;
        h->buffer_size += h->plane_size[k];
    }
    r->count = h->buffer_count = r->count > BUFFERS ? BUFFERS : r->count;
    if (!h->buffer_count)
        return 0;
    /* The descriptor is a file in memory, so that the caller maps the buffers with the real mmap. */
    if (ftruncate(h->fd, h->buffer_count * h->buffer_size))
        return -1;
    h->memory = mmap(NULL, h->buffer_count * h->buffer_size, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
    if (h->memory == MAP_FAILED) {
        h->memory = NULL;
        return -1;
    }
    for (int i = 0; i < h->buffer_count; i++) {
        struct v4l2_buffer empty = {.index = i, .type = r->type, .memory = r->memory};
        h->buffers[i] = empty;
        h->buffers[i].m.offset = i * h->buffer_size;
        h->buffers[i].length = h->buffer_size;
        for (size_t k = 0, at = 0; k < planes; at += h->plane_size[k++]) {
            struct v4l2_plane plane = {.length = h->plane_size[k]};
            h->planes[i][k] = plane;
            h->planes[i][k].m.mem_offset = i * h->buffer_size + at;
        }
        h->buffers[i].flags = strcmp(c->stamps, "none") ? V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC : 0;
    }
    return 0;
}

/* A buffer as the caller gets it: of a multi-planar device, its planes go where the caller's pointer says. */
static int give(const struct handle *h, const struct control *c, int index, struct v4l2_buffer *b) {
    struct v4l2_plane *planes = b->m.planes;
    uint32_t room = b->length;
    if (b->type != kind_of(c) || (c->planes && room < c->planes))
        return fail(EINVAL);
    *b = h->buffers[index];
    if (c->planes) {
        memcpy(planes, h->planes[index], c->planes * sizeof *planes);
        b->m.planes = planes;
        b->length = c->planes;
        b->bytesused = 0;
    }
    return 0;
}

static int queue(struct handle *h, struct v4l2_buffer *b) {
    if (b->index >= (uint32_t)h->buffer_count)
        return fail(EINVAL);
    for (int i = 0; i < h->queued_count; i++)
        if (h->queued[i] == (int)b->index)
            return fail(EINVAL);
    h->queued[h->queued_count++] = b->index;
    return 0;
}

/* Called with the lock held, and gives it up while it sleeps. */
static int dequeue(struct handle *h, struct v4l2_buffer *b) {
    struct control c;
    for (;;) {
        read_control(&c);
        if (is_dead(h, &c))
            return fail(ENODEV);
        if (!h->streaming)
            return fail(EINVAL);
        advance(h, &c);
        if (h->done_count)
            break;
        if (h->nonblocking)
            return fail(EAGAIN);
        pthread_mutex_unlock(&lock);
        nap(2000000);
        pthread_mutex_lock(&lock);
    }
    if (give(h, &c, h->done[0], b))
        return -1;
    memmove(h->done, h->done + 1, --h->done_count * sizeof(int));
    return 0;
}

static int stream_on(struct handle *h, const struct control *c) {
    load_pictures(h, &c->modes[h->mode]);
    if (!h->pictures_size)
        return fail(EIO);
    h->streaming = 1;
    h->sequence = 0;
    h->next_ns = now_ns() + SECOND * c->modes[h->mode].rate_den / c->modes[h->mode].rate_num;
    return 0;
}

static int stream_off(struct handle *h) {
    h->streaming = h->queued_count = h->done_count = 0;
    return 0;
}

static int enum_input(const struct control *c, struct v4l2_input *input) {
    if (input->index)
        return fail(EINVAL);
    memset(input, 0, sizeof *input);
    strcpy((char *)input->name, "Emulated input");
    input->type = V4L2_INPUT_TYPE_CAMERA;
    input->status = c->input;
    return 0;
}

static int query_timings(const struct control *c, struct v4l2_dv_timings *timings) {
    memset(timings, 0, sizeof *timings);
    if (!c->timings_width)
        return fail(ENOTTY);
    if (strcmp(c->signal, "ok"))
        return fail(!strcmp(c->signal, "none") ? ENOLINK : !strcmp(c->signal, "range") ? ERANGE : ENOLCK);
    timings->type = V4L2_DV_BT_656_1120;
    timings->bt.width = c->timings_width;
    timings->bt.height = c->timings_height;
    timings->bt.pixelclock = 148500000;
    return 0;
}

static int set_timings(struct handle *h, const struct control *c, const struct v4l2_dv_timings *timings) {
    if (!c->timings_width)
        return fail(ENOTTY);
    if (timings->bt.pixelclock != 148500000)
        return fail(EINVAL);
    h->timings_width = timings->bt.width;
    h->timings_height = timings->bt.height;
    for (int i = c->mode_count - 1; i >= 0; i--)
        h->mode = usable(h, c, i) ? i : h->mode;
    return 0;
}

static int changed(const struct handle *h, const struct control *c) {
    return h->subscribed && h->change != c->change;
}

static int take_event(struct handle *h, const struct control *c, struct v4l2_event *event) {
    if (!changed(h, c))
        return fail(ENOENT);
    memset(event, 0, sizeof *event);
    event->type = V4L2_EVENT_SOURCE_CHANGE;
    event->u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION;
    h->change = c->change;
    return 0;
}

static int crop_capability(const struct handle *h, const struct control *c, struct v4l2_cropcap *crop) {
    if (!c->aspect_y)
        return fail(ENOTTY);
    crop->defrect.width = c->modes[h->mode].width;
    crop->defrect.height = c->modes[h->mode].height;
    crop->bounds = crop->defrect;
    crop->pixelaspect = (struct v4l2_fract){c->aspect_y, c->aspect_x};
    return 0;
}

static int answer(struct handle *h, unsigned int request, void *argument) {
    struct control c;
    read_control(&c);
    if (is_dead(h, &c))
        return fail(ENODEV);
    if (c.fail_code && (request & 0xff) == (unsigned int)c.fail_number)
        return fail(c.fail_code);
    int busy = !strcmp(c.state, "busy");
    switch (request) {
    case VIDIOC_QUERYCAP:
        return query_capability(&c, argument);
    case VIDIOC_ENUM_FMT:
        if (((struct v4l2_fmtdesc *)argument)->type != kind_of(&c))
            return fail(EINVAL);
        return enum_formats(&c, argument);
    case VIDIOC_QUERY_DV_TIMINGS:
        return query_timings(&c, argument);
    case VIDIOC_S_DV_TIMINGS:
        return set_timings(h, &c, argument);
    case VIDIOC_SUBSCRIBE_EVENT:
        if (!c.timings_width || ((struct v4l2_event_subscription *)argument)->type != V4L2_EVENT_SOURCE_CHANGE)
            return fail(c.timings_width ? EINVAL : ENOTTY);
        h->subscribed = 1;
        h->change = c.change;
        return 0;
    case VIDIOC_DQEVENT:
        return take_event(h, &c, argument);
    case VIDIOC_CROPCAP:
        return crop_capability(h, &c, argument);
    case VIDIOC_ENUM_FRAMESIZES:
        return enum_sizes(&c, argument);
    case VIDIOC_ENUM_FRAMEINTERVALS:
        return c.no_optional ? fail(ENOTTY) : enum_intervals(&c, argument);
    case VIDIOC_ENUMINPUT:
        return enum_input(&c, argument);
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_S_INPUT:
        return *(int *)argument ? fail(EINVAL) : 0;
    case VIDIOC_G_FMT:
        if (((struct v4l2_format *)argument)->type != kind_of(&c))
            return fail(EINVAL);
        describe_format(h, &c, argument);
        return 0;
    case VIDIOC_S_FMT:
        if (((struct v4l2_format *)argument)->type != kind_of(&c))
            return fail(EINVAL);
        return busy ? fail(EBUSY) : set_format(h, &c, argument);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        return set_rate(h, &c, argument, request == VIDIOC_S_PARM);
    case VIDIOC_REQBUFS:
        return busy ? fail(EBUSY) : request_buffers(h, &c, argument);
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = argument;
        if (b->index >= (uint32_t)h->buffer_count)
            return fail(EINVAL);
        return give(h, &c, b->index, b);
    }
    case VIDIOC_QBUF:
        return queue(h, argument);
    case VIDIOC_DQBUF:
        return dequeue(h, argument);
    case VIDIOC_STREAMON:
        if (*(uint32_t *)argument != kind_of(&c))
            return fail(EINVAL);
        return busy ? fail(EBUSY) : stream_on(h, &c);
    case VIDIOC_STREAMOFF:
        return stream_off(h);
    default:
        return fail(ENOTTY);
    }
}

/* --- the C library's calls ------------------------------------------------------------------------------ */

static int open_device(int flags) {
    struct control c;
    read_control(&c);
    if (!strcmp(c.state, "gone"))
        return fail(ENOENT);
    if (!strcmp(c.state, "denied"))
        return fail(EACCES);
    for (int i = 0; i < HANDLES; i++) {
        if (handles[i].fd > 0)
            continue;
        memset(&handles[i], 0, sizeof handles[i]);
        handles[i].fd = memfd_create("emulated-video", MFD_CLOEXEC);
        handles[i].nonblocking = (flags & O_NONBLOCK) != 0;
        handles[i].generation = c.generation;
        return handles[i].fd;
    }
    return fail(EBUSY);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    const char *ours = getenv("STREAMSEG_FAKE_V4L2");
    va_start(rest, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    if (!ours || strcmp(path, ours))
        return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = open_device(flags);
    pthread_mutex_unlock(&lock);
    return fd;
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int close(int fd) {
    pthread_mutex_lock(&lock);
    struct handle *h = handle_of(fd);
    if (h) {
        if (h->memory)
            munmap(h->memory, h->buffer_count * h->buffer_size);
        free(h->pictures);
        memset(h, 0, sizeof *h);
    }
    pthread_mutex_unlock(&lock);
    return real_close(fd);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    pthread_mutex_lock(&lock);
    struct handle *h = handle_of(fd);
    int result = h ? answer(h, (unsigned int)request, argument) : 0;
    int code = errno;
    pthread_mutex_unlock(&lock);
    if (!h)
        return real_ioctl(fd, request, argument);
    errno = code;
    return result;
}

/* Answers for one descriptor of ours by itself; such a one among others is always ready, as any file. */
int poll(struct pollfd *files, nfds_t count, int timeout) {
    long long deadline = now_ns() + timeout * 1000000LL;
    if (count != 1)
        return real_poll(files, count, timeout);
    for (;;) {
        struct control c;
        pthread_mutex_lock(&lock);
        struct handle *h = handle_of(files[0].fd);
        if (h) {
            read_control(&c);
            files[0].revents = 0;
            if (is_dead(h, &c))
                files[0].revents = POLLERR | POLLHUP;
            else if (!h->streaming)
                files[0].revents = POLLERR;
            else {
                advance(h, &c);
                files[0].revents = h->done_count || c.no_poll ? POLLIN | POLLRDNORM : 0;
                if (changed(h, &c) && files[0].events & POLLPRI)
                    files[0].revents |= POLLPRI;
            }
        }
        pthread_mutex_unlock(&lock);
        if (!h)
            return real_poll(files, count, timeout);
        if (files[0].revents)
            return 1;
        if (timeout >= 0 && now_ns() >= deadline)
            return 0;
        nap(1000000);
    }
}
