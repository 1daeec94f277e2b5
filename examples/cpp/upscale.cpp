// Upscales a binary PPM with the image graph of `python -m export image`, in OpenVINO:
//   upscale GRAPH.onnx IN.ppm OUT.ppm
#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include <openvino/openvino.hpp>

ov::Tensor read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    size_t width = 0, height = 0, white = 0;
    file >> magic >> width >> height >> white;
    file.get();  // one white space after the header
    if (!file || magic != "P6" || white != 255)
        throw std::runtime_error(path + " is not a binary PPM of 8 bits");
    ov::Tensor image(ov::element::u8, {1, height, width, 3});
    file.read(reinterpret_cast<char*>(image.data<uint8_t>()), image.get_byte_size());
    if (!file)
        throw std::runtime_error(path + " is truncated");
    return image;
}

int main(int argc, char** argv) try {
    if (argc != 4)
        throw std::runtime_error("usage: upscale GRAPH.onnx IN.ppm OUT.ppm");
    ov::Core core;
    // By default a CPU that has bfloat16 computes fp32 graphs in it, several levels off.
    auto compiled = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    request.set_input_tensor(read_ppm(argv[2]));
    request.infer();
    const ov::Tensor upscaled = request.get_output_tensor();
    const auto shape = upscaled.get_shape();  // 1, height, width, 3
    std::ofstream file(argv[3], std::ios::binary);
    file << "P6\n" << shape[2] << " " << shape[1] << "\n255\n";
    file.write(reinterpret_cast<const char*>(upscaled.data<uint8_t>()), upscaled.get_byte_size());
    return file ? 0 : 1;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
