// Predict with a package of AOTInductor (`triptych export RUN --to model.aoti.pt2`) on libtorch, without Python.
//
//   predict model.aoti.pt2 photo.ppm out_
//
// reads a binary PPM (P6, 8 bits) of a size that the package takes, and writes each map as out_NAME.npy.
// docs/deploy.md has the command that compiles it against the libtorch inside an installed wheel of torch.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// RGB (1, 3, H, W) in [0, 1].
at::Tensor read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    int64_t width = 0, height = 0, largest = 0;
    file >> magic >> width >> height >> largest;
    if (!file || magic != "P6" || largest != 255) throw std::runtime_error(path + " is no binary PPM of 8 bits.");
    file.get();  // one white space ends the header
    std::vector<char> bytes(static_cast<size_t>(3 * width * height));
    if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
        throw std::runtime_error(path + " is cut off.");
    at::Tensor pixels = at::from_blob(bytes.data(), {height, width, 3}, at::kByte);
    return pixels.permute({2, 0, 1}).to(at::kFloat).div(255).contiguous().unsqueeze(0);
}

// Version 1.0 of numpy's format: float32 or int64, little endian.
void write_npy(const std::string& path, const at::Tensor& map) {
    const at::Tensor values = map.contiguous();
    std::ostringstream text;
    text << "{'descr': '" << (values.scalar_type() == at::kLong ? "<i8" : "<f4") << "', 'fortran_order': False, 'shape': (";
    for (int64_t side : values.sizes()) text << side << ", ";
    text << "), }";
    std::string header = text.str();
    header.append(64 - (10 + header.size() + 1) % 64, ' ').push_back('\n');
    const uint16_t length = static_cast<uint16_t>(header.size());
    std::ofstream file(path, std::ios::binary);
    file.write("\x93NUMPY\x01\x00", 8).write(reinterpret_cast<const char*>(&length), 2) << header;
    file.write(static_cast<const char*>(values.data_ptr()), static_cast<std::streamsize>(values.nbytes()));
    if (!file) throw std::runtime_error("cannot write " + path);
}

int main(int count, char** words) {
    if (count != 4) {
        std::cerr << "usage: " << words[0] << " model.aoti.pt2 photo.ppm PREFIX\n";
        return 2;
    }
    try {
        setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1);  // else images of other sizes and types are not noticed
        c10::InferenceMode mode;
        torch::inductor::AOTIModelPackageLoader network(words[1]);
        auto facts = network.get_metadata();
        const at::Tensor image = read_ppm(words[2]);
        const std::string size = std::to_string(image.size(2)) + " " + std::to_string(image.size(3));
        if (facts.count("size") && facts["size"] != size)
            throw std::runtime_error(std::string(words[1]) + " takes images of height and width " + facts["size"] +
                                     ", this one has " + size + ".");
        // Names of the outputs, in order, divided by commas.
        std::istringstream names(facts.at("maps"));
        const std::vector<at::Tensor> maps = network.run({image});
        std::string name;
        for (size_t i = 0; i < maps.size() && std::getline(names, name, ','); ++i) {
            write_npy(words[3] + name + ".npy", maps[i]);
            std::cout << name << " " << maps[i].sizes() << "\n";
        }
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
