"""What a surface file is written with: columns, labels, counter families, a log's columns, a team's own views."""
