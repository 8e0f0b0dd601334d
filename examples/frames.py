"""A loop inside a frame loop: pygame draws 60 frames a second, and tasks run in between.

    python -m examples.frames                  until the window is closed
    python -m examples.frames --frames 120     for two seconds

A toolkit that cannot watch descriptors needs nothing but :meth:`whorl.guest.Guest.turn`, called once a
frame. Tasks that take longer than a frame together continue in the next one, so that none comes late. Needs
``pip install pygame-ce``.
"""

import argparse
import asyncio

import pygame

import whorl.guest

SIZE = (480, 240)


class Ball:
    """A ball that a task moves."""

    def __init__(self, row: int, seconds: float) -> None:
        self.moves = 0
        self.y = 40 + 50 * row
        self._seconds = seconds

    async def roll(self) -> None:
        """Move by one step after the other, each after a time of its own."""
        while True:
            await asyncio.sleep(self._seconds)
            self.moves += 1

    @property
    def place(self) -> tuple[int, int]:
        return 8 * self.moves % SIZE[0], self.y


async def roll_all(balls: list[Ball]) -> None:
    async with asyncio.TaskGroup() as group:
        for ball in balls:
            group.create_task(ball.roll())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=0, help="how many to draw (default: no limit)")
    options = parser.parse_args()
    pygame.init()
    screen = pygame.display.set_mode(SIZE)
    clock = pygame.time.Clock()
    balls = [Ball(row, seconds) for row, seconds in enumerate((0.01, 0.02, 0.05, 0.1))]
    drawn = 0
    with whorl.guest.Guest(roll_all(balls)) as guest:
        while not any(event.type == pygame.QUIT for event in pygame.event.get()):
            guest.turn()
            screen.fill("white")
            for ball in balls:
                pygame.draw.circle(screen, "steelblue", ball.place, 15)
            pygame.display.flip()
            clock.tick(60)
            drawn += 1
            if drawn == options.frames:
                break
    *first, last = (str(ball.moves) for ball in balls)
    print(f"{drawn} frames; the balls have moved {', '.join(first)} and {last} times")
    pygame.quit()


if __name__ == "__main__":
    main()
