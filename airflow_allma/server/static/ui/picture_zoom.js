// How a picture zooms and is dragged in the area that scrolls it.

const ZOOMS = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2];
const SMALLEST_FIT = 0.65; // with less, names could not be read
const TALLEST = 0.7; // of the window, as in flows.css
const BORDERS = 4; // pixels

/** The factor below which a picture does not shrink. */
export const SMALLEST_ZOOM = ZOOMS[0];
/** The factor above which a picture does not grow. */
export const LARGEST_ZOOM = ZOOMS.at(-1);

function fitOf(element, picture, isWhole) {
  // At first only the width has to fit: flows are read from top to bottom.
  const across = (element.clientWidth - BORDERS) / picture.width;
  const down = isWhole ? (TALLEST * globalThis.innerHeight) / picture.height : 1;
  return Math.max(isWhole ? SMALLEST_ZOOM : SMALLEST_FIT, Math.min(1, across, down));
}

function nextZoom(current, by) {
  if (by > 0) return ZOOMS.find((one) => one > current + 0.01);
  return ZOOMS.findLast((one) => one < current - 0.01);
}

/** Return the hooks of a host with which a picture zooms and is dragged. */
export function makeZoom({ useEffect, useLayoutEffect, useRef, useState }) {
  /** Let the wheel zoom while Ctrl is held; `zoomBy(by, {x, y})` may be another function each time. */
  function useWheel(area, zoomBy) {
    const current = useRef(zoomBy);
    current.current = zoomBy;
    useEffect(() => {
      const element = area.current;
      const turned = (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // else it scrolls
        event.preventDefault();
        const bounds = element.getBoundingClientRect();
        current.current(-event.deltaY, { x: event.clientX - bounds.left, y: event.clientY - bounds.top });
      };
      element.addEventListener("wheel", turned, { passive: false });
      return () => element.removeEventListener("wheel", turned);
    }, []);
  }

  /** Return `{zoom, sight, look, zoomBy, fit}`; `sight`: what is seen of a large picture, found by `look`. */
  function useZoom(area, picture, isLarge) {
    const [zoom, setZoom] = useState(null);
    const [sight, setSight] = useState(null);
    const look = () => {
      if (!area.current || !isLarge) return;
      const { scrollLeft: left, scrollTop: top, clientWidth: width, clientHeight: height } = area.current;
      setSight({ left, top, width, height });
    };
    const fit = (isWhole) => area.current && setZoom(fitOf(area.current, picture, isWhole));
    useLayoutEffect(() => {
      fit(false);
      look();
    }, [picture.width, picture.height]);
    useEffect(look, [zoom]);
    // The place that is in the middle, or below the pointer, stays where it is.
    const zoomBy = (by, at) => {
      const old = zoom ?? 1;
      const next = nextZoom(old, by);
      if (!next) return;
      const element = area.current;
      const x = at?.x ?? element.clientWidth / 2;
      const y = at?.y ?? element.clientHeight / 2;
      const left = ((element.scrollLeft + x) / old) * next - x;
      const top = ((element.scrollTop + y) / old) * next - y;
      setZoom(next);
      requestAnimationFrame(() => element.scrollTo(left, top));
    };
    useWheel(area, zoomBy);
    return { zoom, sight, look, zoomBy, fit };
  }

  /** Return the properties of an area that is scrolled by dragging what is in it. */
  function useDrag(area) {
    const start = useRef(null);
    const onPointerDown = (event) => {
      if (event.button || event.target.closest("button")) return;
      const element = area.current;
      start.current = { x: event.clientX + element.scrollLeft, y: event.clientY + element.scrollTop };
      element.setPointerCapture(event.pointerId);
    };
    const onPointerMove = (event) => {
      if (!start.current) return;
      area.current.scrollTo(start.current.x - event.clientX, start.current.y - event.clientY);
    };
    const end = () => {
      start.current = null;
    };
    return { onPointerDown, onPointerMove, onPointerUp: end, onPointerCancel: end };
  }

  return { useDrag, useZoom };
}
