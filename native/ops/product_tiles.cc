#include "ops/product_tiles.h"

#include <algorithm>

namespace weft {

namespace {

constexpr double kTileNs = 4000;         // handing out a tile costs about 0.1 us
constexpr int64_t kTilesPerThread = 8;   // more help no more against a thread that is held up
constexpr double kBytesPerNs = 15;       // what one thread reads and multiplies, roughly
constexpr double kProductsPerNs = 80;

}  // namespace

ProductRows::ProductRows(int64_t rows, int num_threads)
    : rows_(rows), num_shares_(std::clamp<int64_t>(rows / kShareRows, 1, num_threads)),
      blocks_per_share_((rows + num_shares_ * kBlockRows - 1) / (num_shares_ * kBlockRows)) {}

ProductTiles::ProductTiles(const Weight& weight, int64_t rows, int64_t num_blocks, int num_threads, int64_t num_shares,
                           int64_t panels)
    : weight_(weight), num_blocks_(num_blocks), num_shares_(num_shares), panels_(panels) {
  for (const WeightPart& part : weight.parts()) num_panels_ += part.num_panels;
  const double products = static_cast<double>(rows) / static_cast<double>(num_blocks) *
                          static_cast<double>(weight.k() * kPanelColumns);
  const double panel_ns = std::max(
      static_cast<double>(weight.bytes()) / static_cast<double>(num_panels_) / kBytesPerNs, products / kProductsPerNs);
  const int64_t by_time = static_cast<int64_t>(kTileNs / panel_ns) + 1;
  const int64_t by_count = num_panels_ * num_blocks / (kTilesPerThread * num_threads);
  const int64_t panels_per_tile = std::max(by_time, by_count);
  // As many ranges for each thread, or one of them works while the others wait for it.
  const int64_t wanted = (num_panels_ + panels_per_tile - 1) / panels_per_tile;
  num_ranges_ = std::min(num_panels_ / panels_, (wanted + num_threads - 1) / num_threads * num_threads);
}

ProductTile ProductTiles::at(int64_t tile) const {
  const int64_t blocks_per_share = num_blocks_ / num_shares_, tiles_per_share = num_ranges_ * blocks_per_share;
  const int64_t share = tile / tiles_per_share, range = tile % tiles_per_share / blocks_per_share;
  const int64_t units = num_panels_ / panels_;
  return {range * units / num_ranges_ * panels_, (range + 1) * units / num_ranges_ * panels_,
          share * blocks_per_share + tile % blocks_per_share};
}

const uint8_t* ProductTiles::data(int64_t tile) const {
  const uint8_t* first = nullptr;
  if (tile >= count()) return first;
  each_part(at(tile), [&](size_t index, int64_t panel, int64_t) {
    const WeightPart& part = weight_.parts()[index];
    if (!first) first = weight_.data() + part.offset_bytes + panel * part.panel_bytes;
  });
  return first;
}

}  // namespace weft
