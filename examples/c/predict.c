// Predict with an ONNX file (`triptych export RUN --to model.onnx`) through onnxruntime's C interface.
//
//   predict model.onnx photo.ppm out_
//
// reads a binary PPM (P6, 8 bits) of a size that the file takes, and writes each map as out_NAME.npy.
// docs/deploy.md has the command that compiles it against the library inside an installed wheel of onnxruntime.
#include <onnxruntime_c_api.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };  // maps of a file
static const OrtApi *ort;

static void fail(const char *what, const char *name) {
    exit((fprintf(stderr, "error: %s%s\n", name, what), 1));
}

static void check(OrtStatus *status) {
    if (status) fail(ort->GetErrorMessage(status), "");
}

// RGB (1, 3, H, W) in [0, 1].
static float *read_ppm(const char *path, int64_t shape[4]) {
    FILE *file = fopen(path, "rb");
    long width, height, largest;
    char magic[3] = "";
    if (!file) fail(" cannot be opened.", path);
    if (fscanf(file, "%2s %ld %ld %ld", magic, &width, &height, &largest) != 4 || strcmp(magic, "P6") || largest != 255)
        fail(" is no binary PPM of 8 bits.", path);
    fgetc(file);  // one white space ends the header
    if (width < 1 || height < 1 || width > 100000 || height > 100000) fail(" has a size that makes no sense.", path);
    const size_t pixels = (size_t)width * (size_t)height;
    unsigned char *bytes = malloc(3 * pixels);
    float *image = malloc(3 * pixels * sizeof(float));
    if (!bytes || !image) fail(" does not fit in memory.", path);
    if (fread(bytes, 3, pixels, file) != pixels) fail(" is cut off.", path);
    for (size_t i = 0; i < 3 * pixels; i++) image[i % 3 * pixels + i / 3] = (float)bytes[i] / 255;
    fclose(file);
    memcpy(shape, (int64_t[4]){1, 3, height, width}, 4 * sizeof(int64_t));
    return image;
}

// Version 1.0 of numpy's format: float32 or int64, little endian.
static void write_npy(const char *prefix, const char *name, OrtValue *map) {
    OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType type;
    size_t sides, count;
    int64_t shape[8];
    void *values;
    if (strpbrk(name, "/\\")) fail(" is no map's name: it leads to another folder.", name);
    check(ort->GetTensorTypeAndShape(map, &info));
    check(ort->GetTensorElementType(info, &type));
    check(ort->GetDimensionsCount(info, &sides));
    check(ort->GetDimensions(info, shape, sides));
    check(ort->GetTensorShapeElementCount(info, &count));
    check(ort->GetTensorMutableData(map, &values));
    const int whole = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    char header[256], path[4096];
    int length = sprintf(header, "{'descr': '%s', 'fortran_order': False, 'shape': (", whole ? "<i8" : "<f4");
    for (size_t i = 0; i < sides; i++) length += sprintf(header + length, "%lld, ", (long long)shape[i]);
    length += sprintf(header + length, "), }");
    while ((10 + length + 1) % 64) header[length++] = ' ';
    header[length++] = '\n';
    const unsigned char start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, length & 255, length >> 8};
    snprintf(path, sizeof path, "%s%s.npy", prefix, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(start, 10, 1, file) != 1 || fwrite(header, (size_t)length, 1, file) != 1 ||
        fwrite(values, whole ? 8 : 4, count, file) != count || fclose(file))
        fail(" cannot be written.", path);
}

int main(int given, char **words) {
    if (given != 4) return fprintf(stderr, "usage: %s model.onnx photo.ppm PREFIX\n", words[0]), 2;
    if (!(ort = OrtGetApiBase()->GetApi(ORT_API_VERSION))) fail("", "the library is older than the header.");
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    OrtValue *image, *maps[MOST] = {0};
    char *names[MOST];
    int64_t shape[4];
    size_t count;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "triptych", &env));
    check(ort->CreateSession(env, words[1], NULL, &session));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    float *pixels = read_ppm(words[2], shape);
    const size_t bytes = 3 * (size_t)(shape[2] * shape[3]) * sizeof(float);
    check(ort->CreateTensorWithDataAsOrtValue(memory, pixels, bytes, shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &image));
    check(ort->SessionGetOutputCount(session, &count));
    if (count > MOST) fail(" has more maps than this program writes.", words[1]);
    for (size_t i = 0; i < count; i++) check(ort->SessionGetOutputName(session, i, allocator, &names[i]));
    const char *input = "image";
    check(ort->Run(session, NULL, &input, (const OrtValue *const *)&image, 1, (const char *const *)names, count, maps));
    for (size_t i = 0; i < count; i++) write_npy(words[3], names[i], maps[i]);
    return 0;
}
