// Where an image is cut: `cut` of hfdn_deploy.tiling.

const STEP = 16;

// What tiles read and keep along one axis: from `start`, `size` pixels; `first` to `last`.
function spans(length, side, halo) {
  const inner = length - 2 * halo;
  const count = Math.ceil(inner / side);
  if (count <= 1) return [{ start: 0, size: length, first: 0, last: length }];
  const step = Math.min(side, Math.ceil(inner / count / STEP) * STEP);
  const size = step + 2 * halo;
  const starts = Array.from({ length: count }, (_, i) => Math.min(i * step, length - size));
  const edges = [0, ...starts.slice(1).map((start) => start + halo), length];
  return starts.map((start, i) => ({ start, size, first: edges[i], last: edges[i + 1] }));
}

// Tiles that cover an image, all of one shape, in rows from top to bottom.
export function cut(height, width, side, halo) {
  const columns = spans(width, side, halo);
  return spans(height, side, halo).flatMap((rows) => columns.map((across) => ({ rows, across })));
}
