#include "ops/product_tiles.h"

#include <algorithm>

namespace weft {

namespace {

constexpr double kTileNs = 4000;         // handing out a tile costs about 0.1 us
constexpr int64_t kTilesPerThread = 8;   // more help no more against a thread that is held up
constexpr double kBytesPerNs = 15;       // what one thread reads and multiplies, roughly
constexpr double kProductsPerNs = 80;

}  // namespace

ProductTiles::ProductTiles(const Weight& weight, int64_t rows, int64_t num_blocks, int num_threads)
    : weight_(weight), num_blocks_(num_blocks) {
  int64_t panels = 0;
  for (const WeightPart& part : weight.parts()) panels += part.num_panels;
  const double products = static_cast<double>(rows) / static_cast<double>(num_blocks) *
                          static_cast<double>(weight.k() * kPanelColumns);
  const double panel_ns = std::max(static_cast<double>(weight.bytes()) / static_cast<double>(panels) / kBytesPerNs,
                                   products / kProductsPerNs);
  const int64_t by_time = static_cast<int64_t>(kTileNs / panel_ns) + 1;
  const int64_t by_count = panels * num_blocks / (kTilesPerThread * num_threads);
  const int64_t most = (panels + num_threads - 1) / num_threads;
  panels_per_tile_ = std::max<int64_t>(1, std::min(std::max(by_time, by_count), most));
  for (const WeightPart& part : weight.parts()) count_ += ranges(part) * num_blocks_;
}

int64_t ProductTiles::ranges(const WeightPart& part) const {
  return (part.num_panels + panels_per_tile_ - 1) / panels_per_tile_;
}

ProductTile ProductTiles::at(int64_t tile) const {
  int64_t part = 0;
  while (tile >= ranges(weight_.parts()[static_cast<size_t>(part)]) * num_blocks_)
    tile -= ranges(weight_.parts()[static_cast<size_t>(part++)]) * num_blocks_;
  const WeightPart& place = weight_.parts()[static_cast<size_t>(part)];
  const int64_t count = ranges(place), range = tile / num_blocks_;
  return {part, range * place.num_panels / count, (range + 1) * place.num_panels / count, tile % num_blocks_};
}

}  // namespace weft
