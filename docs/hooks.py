"""For mkdocs: takes files that stand outside docs/ into the site, under the same paths, and turns the links to them.

So that one text serves the site and readers of the repository, where `../CHANGELOG.md` leads out of docs/.
"""

from pathlib import Path

from mkdocs.structure.files import File

OUTSIDE = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/*.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "igc_gluon/native/README.md",
)


def on_files(files, config):
    root = Path(config.config_file_path).parent
    for pattern in OUTSIDE:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    if "/" in page.file.src_uri:
        return markdown
    return markdown.replace("](../", "](").replace("](docs/", "](")
